"""Real policy servers in processes of their own, and a raw client that may misbehave."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from policies.interface import Observation
from robot.serve.connection import Connection
from robot.serve.protocol import (
    NO_SECRET,
    Array,
    Failure,
    Frame,
    Hello,
    Join,
    Limits,
    Message,
    Request,
    Welcome,
    declare,
    encode,
    session_key,
)
from tests.policies.helpers import TEXT

ROOT = Path(__file__).parents[2]
LIMITS = Limits(2**20, 2**20)
TOKEN = "0123456789abcdef" * 2
PATIENCE_S = 120
SCRIPT = """
import sys
from pathlib import Path
from policies.deployed import open_bundle
from robot.serve.server import PolicyServer, ServerLimits
folder, backend, port, token = sys.argv[1:]
limits = ServerLimits(join_s=3.0, message_s=3.0, idle_s=6.0, clients=4, batch=2)
server = PolicyServer(open_bundle(Path(folder), backend), port=int(port), token=token or None, limits=limits)
print("port", server.address[1], flush=True)
server.serve()
"""


@contextmanager
def running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port, once it says it; ended at the end."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # ends when the process does
        assert "port" in line, f"the server did not start: {line}"
        yield process, int(line.split()[-1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def strict_server(folder: Path, backend: str = "onnx", port: int = 0, token: str = "") -> list[str]:
    """Command of a server with short deadlines."""
    return [sys.executable, "-c", SCRIPT, str(folder), backend, str(port), token]


class RawClient:
    """Speaks the protocol by hand, so that a test can break it anywhere."""

    def __init__(self, port: int, token: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.connection = Connection(self.socket)
        self.token, self.key, self.sent = token, NO_SECRET, list[bytes]()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)
        self.connection.send(frame, 5)

    def receive(self) -> Frame:
        return self.connection.receive(LIMITS, PATIENCE_S)

    def join(self) -> Welcome:
        """Begin a session as a good client does."""
        hello = self.hello()
        self.key = session_key(self.token, hello.nonce, "ab" * 32)
        self.send(encode(Join(nonce="ab" * 32), "client", self.key))
        welcome = self.receive().open("server", self.key)
        assert isinstance(welcome, Welcome), welcome
        return welcome

    def hello(self) -> Hello:
        hello = self.receive().open("server", NO_SECRET)
        assert isinstance(hello, Hello)
        return hello

    def ask(self, number: int, obs: Observation, **changes: object) -> Message:
        """Send a request, read what comes."""
        self.send(self.request(number, obs, **changes))
        return self.receive().open("server", self.key)

    def request(
        self, number: int, obs: Observation, arrays: Mapping[str, np.ndarray] | None = None, declared: list[Array] | None = None
    ) -> bytes:
        """A request's frame, with other arrays or another declaration of them."""
        arrays = {f"observation/{name}": value for name, value in obs.items() if name != TEXT} if arrays is None else arrays
        declared = declare(arrays) if declared is None else declared
        return encode(Request(number=number, seed=0, texts={TEXT: list(map(str, obs[TEXT]))}, arrays=declared), "client", self.key, arrays)

    def refusal(self) -> Failure:
        """The reason that the server gives, after which it must close."""
        frame = self.receive()
        failure = frame.open("server", self.key if frame.signed("server", self.key) else NO_SECRET)
        assert isinstance(failure, Failure), failure
        self.socket.settimeout(PATIENCE_S)
        assert self.socket.recv(1) == b""
        return failure
