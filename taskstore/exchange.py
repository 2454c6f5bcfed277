"""One call on its way: what is sent, what has come back, and what it means when that is not an answer.

The laws of this room: it does no I/O, and does not know which library does; an error is told by the phase in which it
happened, so that it says whether the request can have arrived; what is read is bounded, in time and in size; no
credential gets into a message or a log, so the address that is shown is without.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import attrs

from taskstore.errors import AnswerError, NotSentError, OutcomeUnknownError, UsageError
from taskstore.wire import Answer, Call

Timeouts: TypeAlias = Mapping[str, float | None]
"""How long each phase may take, in seconds, None for ever: `connect`, `read`, `write`, and `pool` for a free
connection."""

ANSWER_LIMIT: Final = 256 * 2**20
"""The most that is read of an answer, in bytes."""
TOO_SLOW: Final = "the answer has begun, but not ended in time"

_NAME_SHOWN: Final = 200
"""How many characters of a call's method and address an error shows."""

_log: Final = logging.getLogger("taskstore")


@attrs.define(eq=False)
class Exchange:
    """An attempt at a call."""

    call: Call[Any]
    url: str
    """The address, without credentials and without parameters."""
    timeouts: Timeouts
    body_s: float | None
    """How long the body of the answer may take from its first byte to its last; None for ever."""
    began_s: float = attrs.field(factory=time.monotonic)
    _parts: list[bytes] = attrs.field(factory=list, init=False)
    _size: int = attrs.field(default=0, init=False)
    _deadline_s: float | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """Method and address, without credentials."""
        return f"{self.call.request['method'].upper()} {self.url}"[:_NAME_SHOWN]

    def take(self, part: bytes) -> bool:
        """Keep the next part of the answer's body, if there is room for it; False if there was no more time for it."""
        now = time.monotonic()
        if not self._parts and self.body_s is not None:
            self._deadline_s = now + self.body_s
        self._parts.append(part)
        self._size += len(part)
        if self._size > ANSWER_LIMIT:
            raise self.call.failed(AnswerError(f"{self.name}: the answer has more than {ANSWER_LIMIT:,} bytes"))
        return self._deadline_s is None or now <= self._deadline_s

    def answer(self, status: int, headers: Mapping[str, str]) -> Answer:
        """What has come back. The names of the headers are in lower case, or can be asked for in it."""
        if _log.isEnabledFor(logging.DEBUG):
            took_ms = (time.monotonic() - self.began_s) * 1e3
            _log.debug("%s: status %d, %d bytes, %.1f ms", self.name, status, self._size, took_ms)
        return Answer(self.name, status, headers, b"".join(self._parts))

    def not_sendable(self, error: Exception) -> UsageError:
        """What an error means that shows that this can never be sent."""
        return UsageError(f"{self._what(error)}. Nothing was sent")

    def not_http(self) -> UsageError:
        """What it means that the request cannot be written as HTTP. The cause is not told, for it quotes the header."""
        return UsageError(
            f"{self.name}: a header, or the token, holds a character that HTTP does not allow, such as a line break at "
            "its end. Nothing was sent"
        )

    def no_connection_free(self, error: Exception) -> NotSentError:
        """What an error means that came of waiting for another call to end."""
        return NotSentError(f"{self._what(error)}. Nothing was sent, for all connections of this client were in use")

    def not_sent(self, error: Exception) -> NotSentError:
        """What an error means that came before anything was sent."""
        hint = "Is a server running there (`taskstore serve`), and is the address right (base_url, TASKSTORE_URL)?"
        return NotSentError(f"{self._what(error)}. Nothing was sent. {hint}")

    def unanswered(self, error: Exception) -> OutcomeUnknownError:
        """What an error means that came when the request may have arrived."""
        then = "The store may have carried it out or not: look (task, tasks, group) before you repeat it"
        if self.call.only_reads:
            then = "It only reads, so repeat it"
        message = f"{self._what(error)}. The request was sent, and no complete answer came back. {then}"
        return self.call.failed(OutcomeUnknownError(message))

    def _what(self, error: Exception) -> str:
        what = f"{self.name}: {type(error).__name__}: {error}".rstrip(": ")
        _log.debug("%s", what)
        return what
