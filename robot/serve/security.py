"""Where a policy server may be reached, and what that takes: loopback is free, a network needs a token and TLS on both sides."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
from pathlib import Path

from policies.interface import UserError

TOKEN_CHARACTERS = 32
"""Shortest token: who records a session could try short ones."""


class ServeError(UserError):
    """Server or client were asked for something that is not safe, or cannot be done."""


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int], bool]:
    """Address of a host, and whether it is this machine only. Raises `ServeError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ServeError(f"host '{host}' is not known: {error}") from error
    name = str(address[0])
    return family, (name, port), ipaddress.ip_address(name.split("%")[0]).is_loopback


def require_protected(local: bool, host: str, token: str | None, tls: bool, how: str) -> None:
    """Raise `ServeError` for a network address without token or TLS; `how` says how to give them."""
    missing = [what for what, given in (("a token", token is not None), ("TLS", tls)) if not given]
    if not local and missing:
        raise ServeError(f"{host} is reached over a network, which needs {' and '.join(missing)}: {how}; 127.0.0.1 needs neither")


def read_token(path: Path) -> str:
    """The token in a file that only its owner can read. Raises `ServeError`."""
    token = _secret(path).strip()
    if len(token) < TOKEN_CHARACTERS:
        raise ServeError(
            f"the token in {path} has {len(token)} characters, at least {TOKEN_CHARACTERS} are needed; make one with: openssl rand -hex 32"
        )
    return token


def server_tls(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 with a certificate and its private key. Raises `ServeError`."""
    _secret(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise ServeError(f"certificate {cert} with key {key} cannot be used: {error}") from error
    return context


def client_tls(ca: Path) -> ssl.SSLContext:
    """TLS 1.3 that trusts what `ca` signed (a self-signed certificate signs itself), and nothing else. Raises `ServeError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise ServeError(f"certificate {ca} cannot be read: {error}") from error
    return context


def _secret(path: Path) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"{path} cannot be read: {error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ServeError(f"{path} can be read by others on this machine; make it yours alone: chmod 600 {path}")
    return text
