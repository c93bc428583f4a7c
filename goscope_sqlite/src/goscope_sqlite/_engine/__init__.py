"""The engine: it opens the file and runs SQL. It does not know the providers that use it."""
