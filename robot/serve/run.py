"""`vla-rl serve`: open a bundle and answer until told to stop."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from policies.deployed import Backend, open_bundle
from robot.serve.security import read_token, require_protected, resolve, server_tls
from robot.serve.server import PolicyServer


def serve_bundle(
    folder: Path,
    host: str,
    port: int,
    token_file: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    backend: Backend = "auto",
    device: str = "cpu",
) -> None:
    """Serve a bundle until SIGINT or SIGTERM; prints where once clients may connect.

    Args:
        folder: the bundle.
        host: address to bind to; any but loopback needs the next three.
        port: 0 takes a free one.
        token_file: holds the shared secret.
        cert: TLS certificate.
        key: its private key.
        backend: see `policies.deployed.open_bundle`.
        device: of torch.

    Raises:
        ServeError: not safe, or not possible.
        BundleError: the bundle may not run.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    token = read_token(token_file) if token_file else None
    tls = server_tls(cert, key) if cert and key else None
    require_protected(resolve(host, port)[2], host, token, tls is not None, "--token-file, --cert and --key")  # before the policy loads
    policy = open_bundle(folder, backend, device)
    server = PolicyServer(policy, host, port, token, tls)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    name, bound = server.address
    print(f"serving {folder} ({policy.bundle.digest[:12]}…) on {name} port {bound}", flush=True)
    server.serve()
    print("stopped", flush=True)
