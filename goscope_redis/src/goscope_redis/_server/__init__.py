"""Talks to the server: connections, scripts, and what their errors mean."""
