"""The client of a policy server: a deployed policy whose chunks are made elsewhere. Imports no torch."""

from __future__ import annotations

import logging
import random
import secrets
import socket
import time
from pathlib import Path

import numpy as np

from policies.bundle import Bundle, BundleError, parse_bundle
from policies.deployed import Prefix, check_observation, check_prefix
from policies.interface import Observation, PolicyError, SpecError
from robot.serve.connection import Connection, ConnectionLostError
from robot.serve.protocol import (
    NO_SECRET,
    NONCE_BYTES,
    Actions,
    Failure,
    Frame,
    Hello,
    Join,
    Limits,
    ProtocolError,
    Request,
    Welcome,
    declare,
    encode,
    session_key,
    split,
)
from robot.serve.security import client_tls, require_protected, resolve

HELLO_LIMITS = Limits(header=4096, body=0)
WELCOME_LIMITS = Limits(header=2**20, body=0)
REPLY_HEADER = 8192
"""Largest header of a reply [byte]."""
BACKOFF_S = (0.05, 2.0)
"""First and longest pause between attempts to connect; each is twice the last, and shortened at random."""

logger = logging.getLogger(__name__)


class ServerUnavailableError(PolicyError):
    """The policy server gave no chunk in time, or is not the one that it was."""


class RemotePolicy:
    """A `DeployedPolicy` behind a server (see `policies.deployed`). Reconnects by itself; not for several threads at once."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8760, token: str | None = None, ca: Path | None = None, timeout_s: float = 2.0
    ) -> None:
        """Connect and learn what is served.

        Args:
            host: name or address of the server; its certificate must be made out to it.
            port: of the server.
            token: the server's token.
            ca: certificate that the server's is signed with; turns TLS on.
            timeout_s: longest time that `chunk` takes, connecting again included.

        Raises:
            ServeError: a network address without token and TLS.
            ServerUnavailableError: no server there, or it refused.
        """
        self._family, self._address, local = resolve(host, port)
        require_protected(local, host, token, ca is not None, "give the client token and ca")
        self._host, self._token, self._tls, self._timeout_s = host, token or "", client_tls(ca) if ca else None, timeout_s
        self._connection: Connection | None = None
        self._pause_s, self._next_attempt = BACKOFF_S[0], 0.0
        self._reason: Exception = TimeoutError("there was no time to try")
        self._bundle: Bundle | None = None
        self.takes_prefix = False
        self.max_batch = 1
        self.inference_s = 0.0
        """Seconds that the server's policy took for the last chunk."""
        self._connected(time.monotonic() + timeout_s)

    @property
    def bundle(self) -> Bundle:
        """What is served; a server that comes back with another bundle is refused."""
        assert self._bundle is not None
        return self._bundle

    def chunk(self, observation: Observation, prefix: Prefix | None = None, seed: int = 0) -> np.ndarray:
        check_observation(self.bundle, observation)
        check_prefix(self.bundle, prefix)
        if (batch := len(next(iter(observation.values())))) > self.max_batch:
            raise SpecError(f"{self._where} takes at most {self.max_batch} observations at once, got {batch}")
        deadline = time.monotonic() + self._timeout_s
        while True:
            connection = self._connected(deadline)
            try:
                chunk = self._ask(connection, observation, prefix, seed, deadline)
            except (ConnectionLostError, ProtocolError) as error:
                logger.warning("%s: %s", self._where, error)
                self.close()
                self._wait_longer(error)
            else:
                self._pause_s = BACKOFF_S[0]
                return chunk

    def close(self) -> None:
        """Disconnect. Safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _where(self) -> str:
        return f"the policy server at {self._host} port {self._address[1]}"

    def _ask(self, connection: Connection, observation: Observation, prefix: Prefix | None, seed: int, deadline: float) -> np.ndarray:
        """One request and its reply."""
        texts = {name: list(map(str, value)) for name, value in observation.items() if value.dtype.kind in "UO"}
        arrays = {f"observation/{name}": value for name, value in observation.items() if name not in texts}
        arrays |= {} if prefix is None else {"prefix": prefix.actions}
        self._number += 1
        request = Request(number=self._number, seed=seed, committed=prefix.committed if prefix else 0, texts=texts, arrays=declare(arrays))
        connection.send(encode(request, "client", self._key, arrays), deadline - time.monotonic())
        spec = self.bundle.spec
        shape = (len(next(iter(observation.values()))), spec.chunk, spec.action.dim)
        frame = connection.receive(Limits(REPLY_HEADER, 4 * int(np.prod(shape))), deadline - time.monotonic())
        reply = frame.open("server", self._key)
        if isinstance(reply, Failure) and reply.code == "observation":
            raise SpecError(f"{self._where} refused the observation: {reply.message}")
        if isinstance(reply, Failure) and reply.code == "policy":
            raise PolicyError(f"{self._where}: {reply.message}")
        if isinstance(reply, Failure):
            raise ProtocolError(reply.code, f"the server says: {reply.message}")
        if not isinstance(reply, Actions) or reply.number != self._number:
            raise ProtocolError("replay", f"request {self._number} was answered with another message")
        chunk = split(frame.body, reply.arrays).get("chunk")
        if chunk is None or chunk.shape != shape or chunk.dtype != np.float32 or not np.isfinite(chunk).all():
            raise PolicyError(f"{self._where} sent no finite float32 chunk of shape {shape}; nothing of it may be executed")
        self.inference_s = reply.inference_s
        return chunk

    def _connected(self, deadline: float) -> Connection:
        """The connection, made anew where there is none, with growing pauses. Raises `ServerUnavailableError` at the deadline."""
        while self._connection is None:
            now = time.monotonic()
            if max(now, self._next_attempt) >= deadline:
                raise ServerUnavailableError(f"{self._where} gave nothing in time: {self._reason}") from self._reason
            time.sleep(max(0.0, self._next_attempt - now))
            try:
                self._connection = self._join(deadline)
            except (ConnectionLostError, ProtocolError, OSError) as error:
                if isinstance(error, ProtocolError) and error.code in ("unauthenticated", "version"):
                    raise ServerUnavailableError(f"{self._where} refused: {error}") from error  # trying again will not help
                self._wait_longer(error)
        return self._connection

    def _wait_longer(self, reason: Exception) -> None:
        """Put off the next attempt, twice as long as the last time; a chunk that comes makes pauses short again."""
        self._reason = reason
        self._next_attempt = time.monotonic() + self._pause_s * random.uniform(0.5, 1)
        self._pause_s = min(2 * self._pause_s, BACKOFF_S[1])

    def _join(self, deadline: float) -> Connection:
        """Connect and begin a session."""

        def left_s() -> float:
            return max(deadline - time.monotonic(), 0.001)

        sock = socket.socket(self._family, socket.SOCK_STREAM)
        connection: Connection | None = None
        try:
            sock.settimeout(left_s())
            sock.connect(self._address)
            connection = Connection(sock)
            if self._tls is not None:
                connection.start_tls(self._tls, left_s(), self._host)
            hello = connection.receive(HELLO_LIMITS, left_s()).open("server", NO_SECRET)
            if not isinstance(hello, Hello):
                raise ProtocolError("malformed", f"a server begins with hello, got {hello.type}")
            nonce = secrets.token_hex(NONCE_BYTES)
            key = session_key(self._token, hello.nonce, nonce)
            connection.send(encode(Join(nonce=nonce), "client", key), left_s())
            self._accept(_welcome(connection.receive(WELCOME_LIMITS, left_s()), key))
            self._key, self._number = key, 0
        except BaseException:
            (connection or sock).close()
            raise
        return connection

    def _accept(self, welcome: Welcome) -> None:
        try:
            bundle = parse_bundle(welcome.bundle, self._where)
        except BundleError as error:
            raise ServerUnavailableError(str(error)) from error
        if self._bundle is not None and bundle.digest != self._bundle.digest:
            raise ServerUnavailableError(
                f"{self._where} now serves another bundle ({bundle.digest[:12]}…, before {self._bundle.digest[:12]}…); arm again with it"
            )
        self._bundle, self.takes_prefix, self.max_batch = bundle, welcome.takes_prefix, welcome.max_batch


def _welcome(frame: Frame, key: bytes) -> Welcome:
    """The welcome, which proves that the server knows the token. Raises `ProtocolError`."""
    if not frame.signed("server", key) and frame.signed("server", NO_SECRET):
        refusal = frame.open("server", NO_SECRET)  # anyone could have said it; it is only passed on
        if isinstance(refusal, Failure):
            raise ProtocolError(refusal.code, f"the server says: {refusal.message}")
    welcome = frame.open("server", key)
    if not isinstance(welcome, Welcome):
        raise ProtocolError("malformed", f"a server answers join with welcome, got {welcome.type}")
    return welcome
