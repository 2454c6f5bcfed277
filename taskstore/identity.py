"""Who this process is, in the eyes of a store.

The laws of this room: one identity per process, for as long as it lives; no two processes on purpose, so it comes from
the system's random source and a forked child draws its own; and never 0 to 255, where every published Go client lives.
"""

import os
import secrets
from typing import Final

_FIRST: Final = 256
_LAST: Final = 2**31 - 1

_own = 0


def ID() -> int:  # noqa: N802 - the name of the original
    """The client id of this process: a random int32 from 256 on, the same at every call, another one in a fork."""
    return _own


def _renew() -> None:
    global _own  # noqa: PLW0603 - one per process is what a global is
    inherited = _own
    # The transport knows a fork by the changed id, so the child's has to differ for certain.
    while _own == inherited:
        _own = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)


_renew()
if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_renew)
