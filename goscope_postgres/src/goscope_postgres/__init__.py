"""The PostgreSQL backend of goscope, through asyncpg: one store for several machines."""

from .adapter import PostgresAdapter, PostgresOptions

__all__ = ["PostgresAdapter", "PostgresOptions"]
