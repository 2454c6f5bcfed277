"""How bytes come and go on one connection: uvicorn's protocol, with a deadline for heads and answers in one piece.

The law of this room: it knows HTTP's outer form, and nothing of what is asked or answered.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 30
"""How long a client may take to send the head of a request, and, after it has connected, to begin."""
_HEAD: Final = b"HTTP/1.1 "
_INTERIM_HEAD: Final = b"HTTP/1.1 1"


class Protocol(HttpToolsProtocol):
    """uvicorn's, except that a request's head has to arrive in time, and that an answer's head waits for its body.

    The body of a request has a deadline of its own, in http.py.
    """

    _is_in_head = False
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to wait for the first head."""
        self._joined = _Joined(transport)
        super().connection_made(self._joined)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read on; what ends within a head is waited for, but not for ever."""
        super().data_received(data)
        if self._is_in_head and self._late is None:  # Most heads are complete by now, and need no timer.
            self._await_head()

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        super().on_message_begin()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """Note that it is complete."""
        self._is_in_head = False
        self._await_nothing()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Send the head of an answer that has no body."""
        self._joined.flush()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._await_nothing()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _await_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Joined(asyncio.Transport):
    """Sends the head of an answer together with what follows it, or with the end of the answer.

    uvicorn writes the two one after the other. That is two calls of the system and two packets, and a client that
    wakes up twice.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        elif isinstance(data, bytes) and data.startswith(_HEAD) and not data.startswith(_INTERIM_HEAD):
            self._held = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what is still held."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
