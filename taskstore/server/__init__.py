"""The server: `serve` runs it, `open_storage` is the one place that picks a storage."""

from taskstore.server.run import open_storage, serve

__all__ = ["open_storage", "serve"]
