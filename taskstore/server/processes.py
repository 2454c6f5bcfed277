"""Several processes that answer at one address, over a storage that several may use.

The law of this room: they live and die together. One that ends by itself takes the others along, so that whoever
supervises the server sees it.
"""

import os
import signal
import socket
from collections.abc import Callable


def run_together(processes: int, serve: Callable[[Callable[[], None]], int], on_start: Callable[[], None]) -> int:
    """Run `serve` in so many forked processes until SIGTERM or Ctrl-C; to be called before there are any threads.

    Args:
        processes: How many.
        serve: Answers requests until a signal comes, and returns the exit code; calls its argument once it is ready.
        on_start: Called here once all of them are ready.

    Returns:
        0 if all of them have ended well, after a signal; else 1.
    """
    children: dict[int, socket.socket] = {}
    for _ in range(processes):
        child, ready = _forked(serve)
        children[child] = ready
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            os.kill(child, signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # One that ends before it is ready closes its socket, and then nothing can be read from it.
        if all(ready.recv(1) for ready in children.values()):
            on_start()
        well = True
        while children:
            child, status = os.wait()
            children.pop(child).close()
            well = well and status == 0 and stopping
            if not stopping:
                stop()
        return 0 if well else 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forked(serve: Callable[[Callable[[], None]], int]) -> tuple[int, socket.socket]:
    here, there = socket.socketpair()
    child = os.fork()
    if child:
        there.close()
        return child, here
    code = 1
    try:
        code = serve(lambda: there.sendall(b"."))
    finally:
        os._exit(code)
