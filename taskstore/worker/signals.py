"""SIGTERM and Ctrl-C while a worker runs: the first one lets it finish what it does, a second one ends it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` on the first signal, and end as Python usually does on a second one.

    Only the main thread hears of signals; in any other one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def handle(number: int, _frame: object) -> None:
        nonlocal seen
        if seen:
            end_at_once(number)
        seen = True
        stop()

    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(number: int) -> NoReturn:
    """What a second signal does.

    Raises:
        KeyboardInterrupt: It was Ctrl-C.
        SystemExit: It was another one.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
