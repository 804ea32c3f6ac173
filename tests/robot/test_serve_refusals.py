"""Whoever breaks the protocol is told why and loses the connection; the server goes on serving everybody else."""

from __future__ import annotations

import pickle
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

from policies.config import GaussianHeadConfig
from policies.deployed import open_bundle
from robot.serve.client import RemotePolicy, ServerUnavailableError
from robot.serve.connection import ConnectionLostError
from robot.serve.protocol import MAGIC, NO_SECRET, PREFIX, PROTOCOL, Actions, Array, Failure, Join, encode, session_key
from tests.policies.bundles import make_bundle
from tests.policies.helpers import IMAGE, STATE, observations
from tests.robot.servers import PATIENCE_S, TOKEN, RawClient, running, strict_server


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "bundle"
    make_bundle(folder, GaussianHeadConfig(), onnx=True)
    return folder


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    with running(strict_server(bundle, token=TOKEN)) as (_, port):
        yield port


@pytest.fixture(scope="module")
def chunk(bundle: Path) -> np.ndarray:
    """What the bundle makes locally."""
    return open_bundle(bundle, "onnx").chunk(observations(1))


@pytest.fixture
def still_serves(chunk: np.ndarray, port: int) -> Iterator[None]:
    """After the test, a good client gets the chunk that the bundle makes locally."""
    yield
    with RemotePolicy(port=port, token=TOKEN, timeout_s=PATIENCE_S) as policy:
        assert np.array_equal(policy.chunk(observations(1)), chunk)


pytestmark = pytest.mark.usefixtures("still_serves")


@pytest.mark.parametrize("token", [None, "f" * 32])
def test_a_client_without_the_token(token: str | None, port: int) -> None:
    with pytest.raises(ServerUnavailableError, match="the signature is wrong: another token"):
        RemotePolicy(port=port, token=token, timeout_s=PATIENCE_S)


def test_a_join_that_is_signed_with_no_secret(port: int) -> None:
    with RawClient(port) as client:
        client.hello()
        client.send(encode(Join(nonce="ab" * 32), "client", NO_SECRET))
        assert client.refusal().code == "unauthenticated"


def test_a_request_without_join(port: int) -> None:
    with RawClient(port) as client:
        client.hello()
        client.send(client.request(1, observations(1), arrays={}))
        assert client.refusal().code == "malformed"


def test_a_recorded_session(port: int) -> None:
    with RawClient(port, TOKEN) as recorded:
        recorded.join()
        assert isinstance(recorded.ask(1, observations(1)), Actions)
    with RawClient(port) as replayed:
        replayed.hello()
        replayed.send(b"".join(recorded.sent))
        assert replayed.refusal().code == "unauthenticated"


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_request_that_was_sent_before_or_out_of_turn(number: int, port: int) -> None:
    with RawClient(port, TOKEN) as client:
        client.join()
        assert isinstance(client.ask(1, observations(1)), Actions)
        client.send(client.sent[-1] if number == 1 else client.request(number, observations(1)))
        assert client.refusal().code == "replay"


def test_the_servers_own_message_sent_back(port: int) -> None:
    with RawClient(port, TOKEN) as client:
        hello = client.hello()
        client.key = session_key(TOKEN, hello.nonce, "ab" * 32)
        client.send(encode(Join(nonce="ab" * 32), "client", client.key))
        welcome = client.receive()
        client.send(welcome.prefix + welcome.header + welcome.body + welcome.mac)
        assert client.refusal().code in ("unauthenticated", "oversized")


@pytest.mark.parametrize("joined", [False, True])
def test_an_oversized_frame_is_refused_unread(joined: bool, port: int) -> None:
    with RawClient(port, TOKEN) as client:
        client.join() if joined else client.hello()
        client.send(PREFIX.pack(MAGIC, PROTOCOL, 100, 2**31))
        failure = client.refusal()
        assert failure.code == "oversized"
        assert "2147483648 bytes was announced" in failure.message


@pytest.mark.parametrize(
    "payload", [b"GET / HTTP/1.1\r\nHost: robot\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(100), random.Random(0).randbytes(64)]
)
def test_another_protocol(payload: bytes, port: int) -> None:
    with RawClient(port) as client:
        client.hello()
        client.send(payload)
        assert client.refusal().code == "malformed"


def test_another_protocol_version(port: int) -> None:
    with RawClient(port) as client:
        client.hello()
        client.send(PREFIX.pack(MAGIC, PROTOCOL + 1, 10, 0))
        failure = client.refusal()
        assert failure.code == "version"
        assert f"version {PROTOCOL + 1}, this one {PROTOCOL}" in failure.message


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def _frame(client: RawClient, header: bytes, body: bytes = b"") -> bytes:
    """A frame of any content with a good signature."""
    import hmac

    signed = PREFIX.pack(MAGIC, PROTOCOL, len(header), len(body)) + header + body
    return signed + hmac.digest(client.key, b"client\0" + signed, "sha256")


def test_a_pickle_is_never_evaluated(port: int, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    pickle.loads(bomb).close()  # it works
    (tmp_path / "exploded").unlink()
    state = Array(name=f"observation/{STATE}", dtype="float32", shape=(1, 2)).model_dump_json().encode()
    request = b'{"type":"request","number":1,"seed":0,"texts":{},"arrays":[%s]}'
    for header, body, code in (
        (bomb, b"", "malformed"),
        (request % b"", bomb, "malformed"),
        (request % state.replace(b"float32", b"object"), bomb, "malformed"),
        (request % state.replace(b"float32", b"O"), bomb[:8], "malformed"),
    ):
        with RawClient(port, TOKEN) as client:
            client.join()
            client.send(_frame(client, header, body))
            assert client.refusal().code == code
    with RawClient(port, TOKEN) as client:
        client.join()
        client.send(_frame(client, request % state, bomb[:8]))  # eight bytes are two floats
        reply = client.receive().open("server", client.key)
        assert isinstance(reply, Failure) and reply.code == "observation"
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"", "Invalid JSON"),
        (b"[" * 60000, "Invalid JSON"),
        (b'{"type":"shutdown"}', "does not match any of the expected tags"),
        (b'{"type":"request","number":1}', "Field required"),
        (b'{"type":"request","number":1,"seed":0,"texts":{},"arrays":[],"exec":"x"}', "Extra inputs are not permitted"),
        (b'{"type":"request","number":"1","seed":0,"texts":{},"arrays":[]}', "valid integer"),
        (b'{"type":"request","number":1e99,"seed":0,"texts":{},"arrays":[]}', "valid integer"),
        (b'{"type":"request","number":1,"seed":-1,"texts":{},"arrays":[]}', "greater than or equal to 0"),
        (
            b'{"type":"request","number":1,"seed":0,"texts":{},"arrays":[{"name":"x","dtype":"uint8","shape":[-1]}]}',
            "greater than or equal",
        ),
        (b'{"type":"request","number":1,"seed":0,"texts":{},"arrays":[{"name":"x","dtype":"uint8","shape":[7]}]}', "7 bytes are declared"),
        (b'{"type":"request","number":1,"seed":0,"texts":{},"arrays":[],"a\\n09:00 joined":1}', "a?09:00 joined: Extra inputs"),
        (b'{"type":"request","number":1,"seed":0,"texts":{},"arrays":[],"' + b"x" * 5000 + b'":1}', "x" * 900),
        (b'{"type":"hello","nonce":"' + b"0" * 64 + b'"}', "after join come requests, got hello"),
    ],
)
def test_a_malformed_message(header: bytes, sentence: str, port: int) -> None:
    with RawClient(port, TOKEN) as client:
        client.join()
        client.send(_frame(client, header))
        failure = client.refusal()
        assert failure.code == "malformed"
        assert sentence in failure.message


def test_an_array_that_comes_twice(port: int) -> None:
    with RawClient(port, TOKEN) as client:
        client.join()
        array = Array(name="observation/x", dtype="uint8", shape=(1,))
        client.send(client.request(1, observations(1), {"a": np.zeros(2, np.uint8)}, [array, array]))
        assert "comes twice" in client.refusal().message


def test_an_observation_off_the_spec_is_told_and_the_session_goes_on(port: int) -> None:
    obs = observations(1)
    image, state = f"observation/{IMAGE}", f"observation/{STATE}"
    wrong = [
        ({image: obs[IMAGE]}, "missing ['observation.state']"),
        ({image: obs[IMAGE], state: obs[STATE][:, :1]}, "has shape (1, 1), the spec wants (B, 2)"),
        ({image: obs[IMAGE], state: obs[STATE].astype(np.uint8)}, "has dtype uint8, the spec wants float32"),
        ({image: obs[IMAGE], state: np.full((1, 2), np.nan, np.float32)}, "holds NaN"),
        ({image: obs[IMAGE], state: obs[STATE], "gain": obs[STATE]}, "array 'gain' means nothing here"),
        (
            {image: obs[IMAGE], state: obs[STATE], "prefix": np.zeros((9, 2), np.float32)},
            "a prefix must be finite float32 (P, 2) with P ≤ 4",
        ),
        ({image: np.zeros((0, 32, 32, 3), np.uint8), state: np.zeros((0, 2), np.float32)}, "one batch size of at least 1"),
    ]
    with RawClient(port, TOKEN) as client:
        client.join()
        for number, (arrays, sentence) in enumerate(wrong, 1):
            reply = client.ask(number, obs, arrays=arrays)
            assert isinstance(reply, Failure) and reply.code == "observation"
            assert sentence in reply.message
        assert isinstance(client.ask(len(wrong) + 1, obs), Actions)


def test_a_client_that_drips(port: int) -> None:
    with RawClient(port, TOKEN) as client:
        client.join()
        frame, started = client.request(1, observations(1)), time.monotonic()
        with pytest.raises(ConnectionLostError):
            for byte in frame:
                client.connection.send(bytes([byte]), 5)
                time.sleep(0.05)
        assert time.monotonic() - started < 30, f"{len(frame)} bytes would have taken {0.05 * len(frame):.0f} s"


def test_a_client_that_says_nothing(port: int) -> None:
    for joined in (False, True):
        with RawClient(port, TOKEN) as client:
            client.join() if joined else client.hello()
            client.socket.settimeout(PATIENCE_S)
            assert client.socket.recv(1) == b""


def test_too_many_clients(port: int) -> None:
    with RawClient(port) as a, RawClient(port) as b, RawClient(port) as c, RawClient(port) as d:
        for client in (a, b, c, d):
            client.hello()
        more = socket.create_connection(("127.0.0.1", port))
        more.settimeout(PATIENCE_S)
        try:
            assert more.recv(1) == b""
        except ConnectionResetError:
            pass
        finally:
            more.close()
