"""Runs the SQL of the providers: connections, their pool, and the translation of errors."""
