"""The backend of goscope for Redis and Valkey, through redis-py."""

from .adapter import RedisAdapter
from .options import RedisOptions

__all__ = ["RedisAdapter", "RedisOptions"]
