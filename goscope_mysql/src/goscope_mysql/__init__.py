"""The MySQL and MariaDB backend of goscope, through asyncmy."""

from .adapter import MySQLAdapter, MySQLOptions

__all__ = ["MySQLAdapter", "MySQLOptions"]
