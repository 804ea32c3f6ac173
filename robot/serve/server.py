"""The policy server: one policy, several clients, one decision at a time. Whoever breaks the protocol loses the connection only."""

from __future__ import annotations

import logging
import math
import secrets
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from policies.deployed import DeployedPolicy, Prefix
from policies.interface import Observation, PolicyError, SpecError
from robot.serve.connection import Connection, ConnectionLostError
from robot.serve.protocol import (
    NO_SECRET,
    NONCE_BYTES,
    Actions,
    Arrays,
    Failure,
    Hello,
    Join,
    Limits,
    ProtocolError,
    Request,
    Welcome,
    declare,
    encode,
    failure,
    parse,
    session_key,
    split,
)
from robot.serve.security import ServeError, require_protected, resolve

JOIN_LIMITS = Limits(header=512, body=0)
REQUEST_HEADER = 65536
"""Largest header of a request [byte]."""
STOP_S = 0.2
"""How often the server looks whether it should stop."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerLimits:
    """What one client may take."""

    join_s: float = 5.0
    """From connecting to being let in, once for TLS and once for the join."""
    message_s: float = 2.0
    """From the first byte of a message to its last, and for a reply to be read."""
    idle_s: float = 60.0
    """Between two requests."""
    clients: int = 8
    """Connections at once; more are closed at once."""
    batch: int = 8
    """Observations per request."""


@dataclass(frozen=True)
class _Service:
    """What all sessions share."""

    policy: DeployedPolicy
    token: str
    tls: ssl.SSLContext | None
    limits: ServerLimits
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def request_limits(self) -> Limits:
        """Largest request: a batch of observations and a prefix."""
        spec = self.policy.bundle.spec
        row = sum(math.prod(entry.shape) * (1 if entry.dtype == "uint8" else 4) for entry in spec.entries if entry.kind != "text")
        return Limits(REQUEST_HEADER, self.limits.batch * row + 4 * spec.chunk * spec.action.dim)

    def decide(self, observation: Observation, prefix: Prefix | None, seed: int) -> tuple[np.ndarray, float]:
        """The policy's chunk, and the seconds that it took."""
        with self.lock:
            started = time.monotonic()
            return self.policy.chunk(observation, prefix, seed), time.monotonic() - started


class PolicyServer:
    """A listening server. `serve` answers until `stop`."""

    def __init__(
        self,
        policy: DeployedPolicy,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        """Bind. Raises `ServeError` for a network address without token and TLS, or a port that is taken.

        Args:
            policy: decides, for one client at a time.
            host: address to bind to.
            port: 0 takes a free one.
            token: shared secret; clients without it are refused.
            tls: server side of TLS.
            limits: what one client may take.
        """
        family, address, local = resolve(host, port)
        require_protected(local, host, token, tls is not None, "--token-file, --cert and --key")
        self._service = _Service(policy, token or "", tls, limits or ServerLimits())
        self._free = threading.BoundedSemaphore(self._service.limits.clients)
        try:
            self._listener = socket.create_server(address, family=family, backlog=16)
        except OSError as error:
            raise ServeError(f"cannot listen on {host} port {port}: {error}") from error
        self._listener.settimeout(STOP_S)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        return self._listener.getsockname()[:2]

    def serve(self) -> None:
        """Answer until `stop` is called."""
        with self._listener:
            while not self._service.stopping.is_set():
                try:
                    sock, peer = self._listener.accept()
                except TimeoutError:
                    continue
                except OSError as error:  # such as too many open files: that must not end the server
                    logger.warning("a connection could not be accepted: %s", error)
                    time.sleep(STOP_S)
                    continue
                if not self._free.acquire(blocking=False):
                    logger.warning("%s refused: %d clients are connected already", peer[0], self._service.limits.clients)
                    sock.close()
                    continue
                threading.Thread(target=self._guard, args=(sock, f"{peer[0]}:{peer[1]}"), daemon=True).start()

    def stop(self) -> None:
        """Let `serve` return. Safe in a signal handler."""
        self._service.stopping.set()

    def _guard(self, sock: socket.socket, who: str) -> None:
        """One client from beginning to end; whatever happens stays with it."""
        connection = Connection(sock)
        try:
            _Session(connection, self._service, who).run()
        except ConnectionLostError as lost:
            logger.info("%s: %s", who, lost)
        except Exception:
            logger.exception("%s: the session failed", who)
        finally:
            connection.close()
            self._free.release()


class _Session:
    """One client's connection."""

    def __init__(self, connection: Connection, service: _Service, who: str) -> None:
        self._connection, self._service, self._who = connection, service, who
        self._key = NO_SECRET
        self._number = 0

    def run(self) -> None:
        """Let the client in, then answer until it leaves or breaks the protocol."""
        try:
            self._join()
            while not self._service.stopping.is_set():
                self._answer()
        except ProtocolError as error:
            refusal = failure(error.code, error)
            logger.warning("%s refused (%s): %s", self._who, refusal.code, refusal.message)
            self._connection.refuse(encode(refusal, "server", self._key))

    def _join(self) -> None:
        policy, limits = self._service.policy, self._service.limits
        if self._service.tls is not None:
            self._connection.start_tls(self._service.tls, limits.join_s)
        nonce = secrets.token_hex(NONCE_BYTES)
        self._connection.send(encode(Hello(nonce=nonce), "server", NO_SECRET), limits.join_s)
        frame = self._connection.receive(JOIN_LIMITS, limits.join_s)
        join = parse(frame.header)  # not trusted yet: the key that it must be signed with depends on its nonce
        if not isinstance(join, Join):
            raise ProtocolError("malformed", f"a session begins with join, got {join.type}")
        key = session_key(self._service.token, nonce, join.nonce)
        frame.open("client", key)
        self._key = key
        welcome = Welcome(bundle=policy.bundle.model_dump_json(), takes_prefix=policy.takes_prefix, max_batch=limits.batch)
        self._connection.send(encode(welcome, "server", key), limits.message_s)
        logger.info("%s joined", self._who)

    def _answer(self) -> None:
        """One request. Raises `ProtocolError` for what ends the session."""
        limits = self._service.limits
        frame = self._connection.receive(self._service.request_limits, limits.message_s, limits.idle_s)
        request = frame.open("client", self._key)
        if not isinstance(request, Request):
            raise ProtocolError("malformed", f"after join come requests, got {request.type}")
        if request.number != self._number + 1:
            raise ProtocolError("replay", f"request {request.number} came where {self._number + 1} was due; a request counts once")
        self._number = request.number
        reply, arrays = self._reply(request, split(frame.body, request.arrays))
        self._connection.send(encode(reply, "server", self._key, arrays), limits.message_s)

    def _reply(self, request: Request, arrays: Arrays) -> tuple[Actions | Failure, Arrays]:
        try:
            observation, prefix = _observation(request, arrays, self._service.limits.batch)
            chunk, seconds = self._service.decide(observation, prefix, request.seed)
        except SpecError as error:
            return failure("observation", error), {}
        except PolicyError as error:
            logger.error("%s: %s", self._who, error)
            return failure("policy", error), {}
        except Exception:
            logger.exception("%s: the policy failed", self._who)
            return failure("policy", "the policy failed; the server's log says why"), {}
        actions = {"chunk": chunk}
        return Actions(number=request.number, inference_s=seconds, arrays=declare(actions)), actions


def _observation(request: Request, arrays: Arrays, batch: int) -> tuple[Observation, Prefix | None]:
    """Observation and prefix of a request. Raises `SpecError` for other arrays, or too large a batch."""
    observation: Observation = {name: np.array(texts) for name, texts in request.texts.items()}
    prefix = None
    for name, value in arrays.items():
        if name == "prefix":
            prefix = Prefix(value, request.committed)
        elif name.startswith("observation/") and name.removeprefix("observation/") not in observation:
            observation[name.removeprefix("observation/")] = value
        else:
            raise SpecError(f"array '{name}' means nothing here; allowed are observation/<entry> and prefix")
    if any(value.ndim == 0 or len(value) > batch for value in observation.values()):
        raise SpecError(
            f"observations come in batches of 1 to {batch}, got shapes { {name: value.shape for name, value in observation.items()} }"
        )
    return observation, prefix
