"""A server that misbehaves on purpose: byte by byte it does what a test says, and it keeps all that it was sent."""

import contextlib
import re
import socket
import ssl
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TASK = b'{"id":17,"group":"map","data":"hello","duration":1795488673716052434,"ownerid":734512}'
SECRET = "s3cr3t"
"""What no error, log or repr may show."""


class Connection:
    """The server's side of one connection."""

    def __init__(self, peer: "Peer", sock: socket.socket) -> None:
        self.peer, self.socket, self.received = peer, sock, b""

    def request(self) -> bytes:
        """The next request, which is kept; or nothing, if the client has left."""
        while (end := self.received.find(b"\r\n\r\n") + 4) < 4:
            if not self._receive():
                return b""
        length = re.search(rb"content-length: (\d+)", self.received[:end], re.IGNORECASE)
        end += int(length[1]) if length else 0
        while len(self.received) < end:
            if not self._receive():
                return b""
        request, self.received = self.received[:end], self.received[end:]
        self.peer.requests.append((self, request))
        return request

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def stall(self) -> None:
        """Do nothing until the client leaves."""
        while self._receive():
            pass

    def reset(self) -> None:
        """Break the connection, as a crash does, and not by closing it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(65_536)
        except OSError:
            data = b""
        self.received += data
        return data


class Peer:
    """A server on a free port that does on each connection what `script` says."""

    def __init__(self, script: Callable[[Connection], None], tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = script, tls
        self.requests: list[tuple[Connection, bytes]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"
        self.threads = [threading.Thread(target=self._listen)]
        self.connections: list[Connection] = []
        self.threads[0].start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(Connection(self, self.listener.accept()[0]))
                self.threads.append(threading.Thread(target=self._serve, args=self.connections[-1:]))
                self.threads[-1].start()

    def _serve(self, connection: Connection) -> None:
        with connection.socket, contextlib.suppress(ssl.SSLError):
            if self.tls is not None:
                connection.socket = self.tls.wrap_socket(connection.socket, server_side=True)
            with connection.socket:
                self.script(connection)

    def close(self) -> None:
        # A close alone would leave the thread in accept.
        with contextlib.suppress(OSError):  # a test may have done so
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()

    def targets(self) -> list[str]:
        """The paths and queries that were asked for, as they were sent."""
        return [request.split(b" ")[1].decode() for _, request in self.requests]

    def headers(self) -> dict[str, str]:
        """The headers of the last request."""
        lines = self.requests[-1][1].decode().split("\r\n\r\n")[0].split("\r\n")[1:]
        return {name.lower(): value for name, value in (line.split(": ") for line in lines)}


@contextmanager
def peer(script: Callable[[Connection], None], tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    peer = Peer(script, tls)
    try:
        yield peer
    finally:
        peer.close()


def http(body: bytes, status: str = "200 OK", content_type: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def always(answer: bytes) -> Callable[[Connection], None]:
    """Give this answer to every request."""

    def script(connection: Connection) -> None:
        while connection.request():
            connection.send(answer)

    return script


def once(act: Callable[[Connection], object]) -> Callable[[Connection], None]:
    """Read a request, do this, and close."""

    def script(connection: Connection) -> None:
        connection.request()
        act(connection)

    return script


def nothing_to_claim(connection: Connection) -> None:
    always(http(b'{"tasks":[],"error":null}'))(connection)


def no_groups(connection: Connection) -> None:
    always(http(b"[]"))(connection)


def assert_no_secret(error: BaseException) -> None:
    """Neither in the error nor in what a traceback shows of its causes."""
    shown = "".join(traceback.format_exception(error))
    # The test's own lines are in the traceback, but name the secret only by its variable.
    assert SECRET not in shown
    assert SECRET not in repr(error)
