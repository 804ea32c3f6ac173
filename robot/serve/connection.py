"""A socket that sends and receives whole frames, each within a deadline: who drips bytes gains nothing."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from robot.serve.protocol import MAC_BYTES, PREFIX, Frame, Limits, ProtocolError, frame_sizes

LINGER_S = 0.5
"""How long a refused peer may take to read why."""
PART = 2**16


class ConnectionLostError(Exception):
    """The other side has gone, or does not answer."""


class Connection:
    """One end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start_tls(self, context: ssl.SSLContext, within_s: float, server_name: str | None = None) -> None:
        """Begin TLS: as the client of `server_name`, or as a server. Raises `ConnectionLostError`."""
        deadline = time.monotonic() + within_s
        try:
            secure = context.wrap_socket(
                self._socket, server_side=server_name is None, server_hostname=server_name, do_handshake_on_connect=False
            )
            self._socket = secure
            _retry(secure, secure.do_handshake, deadline)
        except TimeoutError:
            raise ConnectionLostError(f"TLS did not begin within {within_s:g} s; does the other side use it?") from None
        except (OSError, ValueError) as error:
            raise ConnectionLostError(f"TLS failed: {error}") from error

    def send(self, frame: bytes, within_s: float) -> None:
        """Send one frame. Raises `ConnectionLostError` if the other side has gone or does not take it in time."""
        deadline, rest = time.monotonic() + within_s, memoryview(frame)
        try:
            while rest:
                rest = rest[_retry(self._socket, partial(self._socket.send, rest[:PART]), deadline, select.POLLOUT) :]
        except TimeoutError:
            raise ConnectionLostError(f"the other side did not read a frame within {max(within_s, 0):.3g} s") from None
        except OSError as error:
            raise ConnectionLostError(f"the connection broke: {error}") from error

    def receive(self, limits: Limits, within_s: float, wait_s: float | None = None) -> Frame:
        """Receive one frame, whose signature is not checked yet.

        Args:
            limits: what is larger is refused unread.
            within_s: time for the whole frame; from its first byte on where `wait_s` is given.
            wait_s: time until its first byte.

        Raises:
            ProtocolError: the frame is malformed, too large, or came too slowly.
            ConnectionLostError: the other side has gone, or sent nothing in time.
        """
        deadline = time.monotonic() + (within_s if wait_s is None else wait_s)
        try:
            first = self._read(1, deadline)
        except TimeoutError:
            raise ConnectionLostError(f"nothing came within {max(within_s if wait_s is None else wait_s, 0):.3g} s") from None
        if wait_s is not None:
            deadline = time.monotonic() + within_s
        try:
            prefix = first + self._read(PREFIX.size - 1, deadline)
            header, body = frame_sizes(prefix, limits)
            return Frame(prefix, self._read(header, deadline), self._read(body, deadline), self._read(MAC_BYTES, deadline))
        except TimeoutError:
            raise ProtocolError("slow", f"a frame was not complete within {within_s:.3g} s") from None

    def refuse(self, frame: bytes) -> None:
        """Say why, give the other side a moment to read it, and close: closing at once would lose the words."""
        with suppress(ConnectionLostError, OSError):
            self.send(frame, LINGER_S)
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + LINGER_S
            while _retry(self._socket, partial(self._socket.recv, PART), deadline):
                pass
        self.close()

    def close(self) -> None:
        """Close the socket. Safe to call twice."""
        with suppress(OSError):
            self._socket.close()

    def _read(self, size: int, deadline: float) -> bytes:
        """Exactly `size` bytes. Raises `TimeoutError` at the deadline, `ConnectionLostError` at the end of the stream."""
        parts, missing = [], size
        while missing:
            wanted = min(missing, PART)
            try:
                part = _retry(self._socket, partial(self._socket.recv, wanted), deadline)
            except TimeoutError:
                raise
            except OSError as error:
                raise ConnectionLostError(f"the connection broke: {error}") from error
            if not part:
                raise ConnectionLostError("the other side closed the connection")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def _retry[T](sock: socket.socket, call: Callable[[], T], deadline: float, blocked_on: int = select.POLLIN) -> T:
    """Call until it does not have to wait any more. Raises `TimeoutError` at the deadline, even if the peer drips bytes.

    Args:
        sock: what `call` works on.
        call: does not block.
        deadline: on the monotonic clock [s].
        blocked_on: what a plain socket waits for; TLS says so itself.
    """
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        try:
            return call()
        except BlockingIOError:
            event = blocked_on
        except ssl.SSLWantReadError:
            event = select.POLLIN
        except ssl.SSLWantWriteError:
            event = select.POLLOUT
        poll = select.poll()
        poll.register(sock, event)
        poll.poll(1000 * left_s)
