"""The policy server with good clients: the same chunk everywhere, TLS, reconnection, and what a client refuses itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

from policies.config import FlowHeadConfig, GaussianHeadConfig
from policies.deployed import LocalPolicy, Prefix, draw_noise, open_bundle
from policies.interface import PolicyError, SpecError
from robot.serve.client import RemotePolicy, ServerUnavailableError
from robot.serve.protocol import PREFIX, Frame, Hello, Limits, ProtocolError, encode, frame_sizes, session_key
from robot.serve.security import ServeError
from robot.serve.server import PolicyServer
from tests.policies.bundles import make_bundle
from tests.policies.helpers import IMAGE, observations
from tests.robot.servers import PATIENCE_S, ROOT, TOKEN, running, strict_server
from tests.vla_rl.test_cli import refused

SERVE = [str(Path(sys.executable).with_name("vla-rl")), "serve"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "bundle"
    make_bundle(folder, GaussianHeadConfig(), onnx=True)
    return folder


@pytest.fixture
def threaded(bundle: Path) -> Iterator[tuple[PolicyServer, LocalPolicy]]:
    """A server in this process, for what can only be seen from inside."""
    policy = open_bundle(bundle, "onnx")
    server = PolicyServer(policy)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server, policy
    server.stop()
    thread.join()


def test_the_same_chunk_in_process_by_torch_by_onnx_and_over_the_server(tmp_path: Path) -> None:
    policy = make_bundle(tmp_path / "bundle", FlowHeadConfig(steps=2), onnx=True)
    by_torch, by_onnx = (open_bundle(tmp_path / "bundle", backend) for backend in ("torch", "onnx"))
    recorded = observations(8, seed=3)
    command = [*SERVE, str(tmp_path / "bundle"), "--port", "0", "--backend", "torch"]
    with running(command) as (process, port), RemotePolicy(port=port, timeout_s=PATIENCE_S) as remote:
        assert remote.bundle == by_torch.bundle
        assert remote.takes_prefix and by_torch.takes_prefix and not by_onnx.takes_prefix, "guidance needs gradients"
        for row in range(8):
            obs = {name: value[row : row + 1] for name, value in recorded.items()}
            noise = draw_noise(by_torch.bundle, 1, seed=row)
            with torch.no_grad():
                in_process = policy.greedy(policy.encode(obs), torch.as_tensor(noise)).numpy()
            assert np.array_equal(by_torch.chunk(obs, seed=row), in_process)
            assert np.array_equal(remote.chunk(obs, seed=row), in_process)
            prefix = Prefix(np.zeros((2, 2), np.float32), 1)
            continued = by_torch.chunk(obs, prefix, row)
            assert np.array_equal(remote.chunk(obs, prefix, row), continued) and not np.array_equal(continued, in_process)
            assert np.array_equal(by_onnx.chunk(obs, prefix, row), by_onnx.chunk(obs, seed=row)), "it cannot, and ignores it"
            half = np.array([0.1, 0.5], np.float32)  # half action ranges
            assert (np.abs(by_onnx.chunk(obs, seed=row) - in_process) / half).max() < 1e-4
        assert remote.inference_s > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def make_certificate(folder: Path, name: str, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    return cert, key


def make_token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_tls(bundle: Path, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "robot")
    other, _ = make_certificate(tmp_path, "other")
    elsewhere, elsewhere_key = make_certificate(tmp_path, "elsewhere", "127.0.0.9")
    protected = ["--port", "0", "--token-file", str(make_token(tmp_path))]
    with running([*SERVE, str(bundle), *protected, "--cert", str(cert), "--key", str(key)]) as (_, port):
        with RemotePolicy(port=port, token=TOKEN, ca=cert, timeout_s=PATIENCE_S) as remote:
            assert np.array_equal(remote.chunk(observations(1)), open_bundle(bundle, "onnx").chunk(observations(1)))
        with pytest.raises(ServerUnavailableError, match="the signature is wrong"):
            RemotePolicy(port=port, token="f" * 32, ca=cert, timeout_s=PATIENCE_S)
        with pytest.raises(ServerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            RemotePolicy(port=port, token=TOKEN, ca=other, timeout_s=5)
        with pytest.raises(ServerUnavailableError, match="gave nothing in time"):  # a client without TLS
            RemotePolicy(port=port, token=TOKEN, timeout_s=2)
        with RemotePolicy(port=port, token=TOKEN, ca=cert, timeout_s=PATIENCE_S) as remote:
            assert remote.chunk(observations(1)).shape == (1, 4, 2)
    with (
        running([*SERVE, str(bundle), *protected, "--cert", str(elsewhere), "--key", str(elsewhere_key)]) as (_, port),
        pytest.raises(ServerUnavailableError, match="IP address mismatch"),
    ):
        RemotePolicy(port=port, token=TOKEN, ca=elsewhere, timeout_s=5)


def test_a_network_needs_token_and_tls_on_both_sides(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = make_certificate(tmp_path, "robot")
    token, tls = ["--token-file", str(make_token(tmp_path))], ["--cert", str(cert), "--key", str(key)]
    for host in ("0.0.0.0", "", "::"):
        serve = ["serve", str(bundle), "--host", host]
        assert "needs a token and TLS" in refused(serve, capsys)
        assert "needs TLS: --token-file" in refused([*serve, *token], capsys)
        assert "needs a token: --token-file" in refused([*serve, *tls], capsys)
    for arguments, sentence in (
        ({}, "needs a token and TLS"),
        ({"token": TOKEN}, "needs TLS"),
        ({"ca": cert}, "needs a token"),
    ):
        with pytest.raises(ServeError, match=sentence):
            RemotePolicy("192.0.2.1", 1, **arguments)


def test_secrets_that_are_none(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = make_certificate(tmp_path, "robot")
    token = make_token(tmp_path)
    serve = ["serve", str(bundle)]
    token.chmod(0o640)
    assert "can be read by others on this machine; make it yours alone: chmod 600" in refused([*serve, "--token-file", str(token)], capsys)
    token.chmod(0o600)
    token.write_text("short")
    assert "has 5 characters, at least 32 are needed" in refused([*serve, "--token-file", str(token)], capsys)
    assert "nowhere cannot be read" in refused([*serve, "--token-file", "nowhere"], capsys)
    assert "--cert and --key belong together" in refused([*serve, "--cert", str(cert)], capsys)
    key.chmod(0o644)
    assert "chmod 600" in refused([*serve, "--cert", str(cert), "--key", str(key)], capsys)
    key.chmod(0o600)
    key.write_text("no key")
    assert "cannot be used" in refused([*serve, "--cert", str(cert), "--key", str(key)], capsys)


def test_a_changed_bundle_is_not_served(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a bundle" in refused(["serve", str(tmp_path)], capsys)


def test_a_server_that_is_restarted(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_bundle(other, GaussianHeadConfig(start_std=0.4), onnx=True)
    obs = observations(1)
    with running(strict_server(bundle)) as (process, port):
        remote = RemotePolicy(port=port, timeout_s=PATIENCE_S)
        before = remote.chunk(obs)
        process.kill()
        process.wait()
        remote._timeout_s = 0.5
        started = time.monotonic()
        with pytest.raises(ServerUnavailableError, match="gave nothing in time"):
            remote.chunk(obs)
        with pytest.raises(PolicyError):  # every later one too, each in time
            remote.chunk(obs)
        assert time.monotonic() - started < 10
    remote._timeout_s = PATIENCE_S
    with running(strict_server(bundle, port=port)):
        assert np.array_equal(remote.chunk(obs), before)
    with running(strict_server(other, port=port)), pytest.raises(ServerUnavailableError, match="now serves another bundle"):
        remote.chunk(obs)
    remote.close()


def until_stopped(pid: int) -> None:
    """Every thread of a process has taken note of SIGSTOP."""
    threads = [Path(f"/proc/{pid}/task/{task}/stat") for task in os.listdir(f"/proc/{pid}/task")]
    while any(thread.read_text().rpartition(")")[2].split()[0] != "T" for thread in threads):
        time.sleep(0.01)


def test_a_server_that_hangs(bundle: Path) -> None:
    with running(strict_server(bundle)) as (process, port), RemotePolicy(port=port, timeout_s=PATIENCE_S) as remote:
        obs = observations(2)
        first, second = ({name: value[row : row + 1] for name, value in obs.items()} for row in (0, 1))
        remote.chunk(first)
        os.kill(process.pid, signal.SIGSTOP)
        until_stopped(process.pid)
        remote._timeout_s = 1.0
        started = time.monotonic()
        with pytest.raises(ServerUnavailableError, match="gave nothing in time"):
            remote.chunk(first)
        assert time.monotonic() - started < 10
        os.kill(process.pid, signal.SIGCONT)
        remote._timeout_s = PATIENCE_S
        # The late answer to the first request never passes for the answer to the second.
        assert np.array_equal(remote.chunk(second), open_bundle(bundle, "onnx").chunk(second))


def test_a_server_that_does_not_know_the_token(bundle: Path) -> None:
    with running(strict_server(bundle)) as (_, port), pytest.raises(ServerUnavailableError, match="the signature is wrong"):
        RemotePolicy(port=port, token=TOKEN, timeout_s=PATIENCE_S)


def test_a_policy_that_fails_is_told_and_the_session_goes_on(threaded: tuple[PolicyServer, LocalPolicy]) -> None:
    server, policy = threaded
    good = policy._act

    def broken(*_: object) -> np.ndarray:
        raise RuntimeError("out of memory at 0x1234")

    with RemotePolicy(port=server.address[1], timeout_s=PATIENCE_S) as remote:
        nan = np.full((1, 4, 2), np.nan, np.float32)
        for act, sentence in ((lambda *_: nan, "NaN or infinite"), (broken, "the policy failed; the server's log")):
            policy._act = act
            with pytest.raises(PolicyError, match=sentence):
                remote.chunk(observations(1))
        policy._act = good
        assert remote.chunk(observations(1)).shape == (1, 4, 2)


def test_a_server_that_sends_something_else(threaded: tuple[PolicyServer, LocalPolicy], monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = threaded
    with RemotePolicy(port=server.address[1], timeout_s=2) as remote:
        for wrong in (np.zeros((1, 3, 2), np.float32), np.zeros((1, 4, 2), np.uint8), np.full((1, 4, 2), np.nan, np.float32)):
            monkeypatch.setattr(LocalPolicy, "chunk", lambda *_, wrong=wrong: wrong)
            with pytest.raises(PolicyError, match="sent no finite float32 chunk"):
                remote.chunk(observations(1))
        monkeypatch.setattr(LocalPolicy, "chunk", lambda *_: np.zeros((9, 4, 2), np.float32))
        with pytest.raises(ServerUnavailableError, match="288 bytes was announced"):
            remote.chunk(observations(1))


def test_the_client_checks_before_it_asks(threaded: tuple[PolicyServer, LocalPolicy]) -> None:
    server, _ = threaded
    with RemotePolicy(port=server.address[1], timeout_s=PATIENCE_S) as remote:
        with pytest.raises(SpecError, match=r"missing \['observation.images.front'\]"):
            remote.chunk({name: value for name, value in observations(1).items() if name != IMAGE})
        with pytest.raises(SpecError, match="at most 8 observations at once, got 9"):
            remote.chunk(observations(9))
        assert remote.chunk(observations(8)).shape == (8, 4, 2)


def test_no_change_of_a_frame_passes() -> None:
    key, rng = session_key(TOKEN, "0" * 64, "1" * 64), np.random.default_rng(0)
    good = encode(Hello(nonce="5" * 64), "server", key)
    limits, size = Limits(4096, 4096), PREFIX.size

    def open_frame(data: bytes) -> object:
        header, body = frame_sizes(data[:size], limits)
        end = size + header
        return Frame(data[:size], data[size:end], data[end : end + body], data[end + body :]).open("server", key)

    assert isinstance(open_frame(good), Hello)
    for _ in range(20000):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(ProtocolError):
            open_frame(bytes(data))


def test_the_client_needs_no_torch() -> None:
    heavy = ("torch", "onnxruntime", "sim", "vla_rl")
    code = f"import sys, robot.serve.client, robot.serve.server; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
