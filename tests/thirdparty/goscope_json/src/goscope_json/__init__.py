"""A backend of goscope that keeps everything in one JSON file."""

from .adapter import JSONAdapter

__all__ = ["JSONAdapter"]
