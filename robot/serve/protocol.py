"""The messages between policy server and client, and how they are written, signed and checked. Standard library, pydantic, NumPy.

    frame   = prefix (magic, protocol version, header length, body length) · header (JSON) · body (raw arrays) · HMAC-SHA256

    server ─ hello: its nonce ────────────────────────────────────────────► client     signed with no secret
    server ◄─ join: the client's nonce ──────────────────────────────────── client     signed with the session's key
    server ─ welcome: bundle.json and abilities ──────────────────────────► client     "
    server ◄─ request: number n, seed, observation, committed prefix ────── client     "
    server ─ actions: number n ───────────────────────────────────────────► client     "

The session's key is HMAC-SHA256(token, both nonces): who does not know the token can sign nothing, the token itself is never
sent, and the server proves with its welcome that it knows it too. What was recorded in one session is worthless in another,
as the server's nonce is new. Within a session, requests are numbered 1, 2, 3…, and every other number ends it. Direction is
part of every signature, so that a message cannot be sent back. TLS adds secrecy and is demanded wherever a network is between.

Arrays are raw little-endian bytes of two dtypes with a declared shape. Nothing received is ever unpickled, evaluated or
imported, and nothing is allocated before its size was checked.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

PROTOCOL = 2
MAGIC = b"VLRP"
PREFIX = struct.Struct(">4sHII")
MAC_BYTES = hashlib.sha256().digest_size
NONCE_BYTES = 32
NO_SECRET = b""
"""Key of messages that are sent before there is a session; such a signature proves nothing."""

MESSAGE_CHARACTERS = 1000
"""Longest explanation of a failure."""

Sender = Literal["server", "client"]
Code = Literal["malformed", "version", "oversized", "unauthenticated", "replay", "slow", "observation", "policy"]
"""Why something is refused. After `observation` and `policy` the session goes on; everything else ends it."""

DTYPES = {"uint8": np.dtype("uint8"), "float32": np.dtype("<f4")}
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=0, lt=2**63)]


class ProtocolError(Exception):
    """The other side broke the protocol."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Array(_Message):
    """One array of the body, in order."""

    name: Annotated[str, Field(max_length=200)]
    dtype: Literal["uint8", "float32"]
    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=2**20)], ...], Field(max_length=5, strict=False)]

    @property
    def bytes(self) -> int:
        """Length in the body."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class Hello(_Message):
    """The server's first message."""

    type: Literal["hello"] = "hello"
    nonce: Nonce


class Join(_Message):
    """The client's first message; its signature is what lets it in."""

    type: Literal["join"] = "join"
    nonce: Nonce


class Welcome(_Message):
    """What is served."""

    type: Literal["welcome"] = "welcome"
    bundle: str
    """The text of `bundle.json`."""
    takes_prefix: bool
    """Whether chunks are conditioned on the committed prefix."""
    max_batch: int


class Request(_Message):
    """One decision is asked for. Body: `observation/<entry>` arrays, then `prefix` if there is one."""

    type: Literal["request"] = "request"
    number: Number
    seed: Number
    committed: Number = 0
    """How many steps of the prefix are executed before the chunk can take over."""
    texts: Annotated[dict[str, list[Annotated[str, Field(max_length=2000)]]], Field(max_length=16)]
    arrays: Annotated[list[Array], Field(max_length=64)]


class Actions(_Message):
    """The chunk. Body: one array `chunk`."""

    type: Literal["actions"] = "actions"
    number: Number
    inference_s: float
    arrays: Annotated[list[Array], Field(max_length=1)]


class Failure(_Message):
    """Something was refused, or failed."""

    type: Literal["failure"] = "failure"
    code: Code
    message: Annotated[str, Field(max_length=MESSAGE_CHARACTERS)]


Message = Annotated[Hello | Join | Welcome | Request | Actions | Failure, Field(discriminator="type")]
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)
Arrays = dict[str, np.ndarray]


class Limits(NamedTuple):
    """Largest frame that is accepted, in bytes."""

    header: int
    body: int


class Frame(NamedTuple):
    """A received frame, not trusted yet."""

    prefix: bytes
    header: bytes
    body: bytes
    mac: bytes

    def open(self, sender: Sender, key: bytes) -> Message:
        """The message, if `sender` signed the frame with `key`. Raises `ProtocolError`."""
        if not self.signed(sender, key):
            raise ProtocolError(
                "unauthenticated", "the signature is wrong: another token, or a message that was changed or recorded before"
            )
        return parse(self.header)

    def signed(self, sender: Sender, key: bytes) -> bool:
        """Whether `sender` signed the frame with `key`."""
        return hmac.compare_digest(self.mac, _sign(self.prefix + self.header + self.body, sender, key))


def failure(code: Code, reason: object) -> Failure:
    """A failure for a reason, which may quote what the other side sent: without control characters, and not too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(reason))
    return Failure(code=code, message=text[:MESSAGE_CHARACTERS])


def session_key(token: str, server_nonce: str, client_nonce: str) -> bytes:
    """The key that both sides sign a session with."""
    return hmac.digest(token.encode(), f"vla-rl session {PROTOCOL} {server_nonce} {client_nonce}".encode(), "sha256")


def encode(message: Message, sender: Sender, key: bytes, arrays: Mapping[str, np.ndarray] | None = None) -> bytes:
    """A whole frame. `arrays` are those that the message declares, in its order."""
    header = message.model_dump_json().encode()
    body = b"".join(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for array in (arrays or {}).values())
    signed = PREFIX.pack(MAGIC, PROTOCOL, len(header), len(body)) + header + body
    return signed + _sign(signed, sender, key)


def declare(arrays: Mapping[str, np.ndarray]) -> list[Array]:
    """Names, dtypes and shapes of arrays, for a message. Raises `ProtocolError` for a dtype that is never sent."""
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise ProtocolError("malformed", f"array '{name}' has dtype {array.dtype}; sent are {', '.join(DTYPES)}")
    return [Array(name=name, dtype=array.dtype.name, shape=array.shape) for name, array in arrays.items()]  # type: ignore[arg-type]


def frame_sizes(prefix: bytes, limits: Limits) -> tuple[int, int]:
    """Lengths of header and body that a prefix announces. Raises `ProtocolError` before anything of them is read."""
    magic, version, header, body = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError("malformed", f"this is no frame of the policy protocol: it starts with {magic!r}")
    if version != PROTOCOL:
        raise ProtocolError("version", f"the other side speaks protocol version {version}, this one {PROTOCOL}; install the same release")
    if header > limits.header or body > limits.body:
        raise ProtocolError(
            "oversized", f"a frame of {header} + {body} bytes was announced; allowed here are {limits.header} + {limits.body}"
        )
    return header, body


def parse(header: bytes) -> Message:
    """A header's message. Raises `ProtocolError`."""
    try:
        return _ADAPTER.validate_json(header)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "header"
        raise ProtocolError("malformed", f"{where}: {problem['msg']}") from None


def split(body: bytes, declared: list[Array]) -> Arrays:
    """The arrays of a body. Raises `ProtocolError` if their sizes do not add up, or a name comes twice."""
    if sum(array.bytes for array in declared) != len(body):
        raise ProtocolError("malformed", f"arrays of {sum(array.bytes for array in declared)} bytes are declared, the body has {len(body)}")
    arrays: Arrays = {}
    start = 0
    for array in declared:
        if array.name in arrays:
            raise ProtocolError("malformed", f"array '{array.name}' comes twice")
        arrays[array.name] = np.frombuffer(body, DTYPES[array.dtype], math.prod(array.shape), start).reshape(array.shape).copy()
        start += array.bytes
    return arrays


def _sign(signed: bytes, sender: Sender, key: bytes) -> bytes:
    return hmac.digest(key, sender.encode() + b"\0" + signed, "sha256")
