"""A real server in a process of its own, which can be killed and started again on the same file, at the same port."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trials import crash

TASKSTORE: Final = ("-m", "taskstore")


class Server:
    """A server that has as many lives as are needed.

    Args:
        directory: Where its file is, and its log.
        program: What Python runs, in place of the real one.
    """

    def __init__(self, directory: Path, program: Sequence[str] = TASKSTORE) -> None:
        self.port = 0
        self._store = str(directory / "store.db")
        self._log = directory / "server.log"
        self._program = program
        self._life: crash.Server | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        command = (*self._program, "serve", "--port", str(self.port), "--store", self._store)
        with self._log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=file)
        self._life = await crash.Server(process, self._log).ready()
        self.port = self._life.port

    async def kill(self) -> None:
        """Kill it where it stands."""
        assert self._life
        await self._life.kill()

    async def stop(self) -> None:
        """Have it finish what is under way, and end."""
        assert self._life
        await self._life.stop()
