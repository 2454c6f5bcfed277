"""The server: `serve` runs it, `open_storage` is the one place that picks a storage."""

from taskstore.server.run import open_storage, serve
from taskstore.server.sqlite import backup, restore

__all__ = ["backup", "open_storage", "restore", "serve"]
