"""What tells programs in the sandbox of the proxy, and which certificates hold: environment variables."""

from __future__ import annotations

import os

from sandcove.wire.egress import PROXY_HOST, PROXY_PORT

__all__ = ["BUNDLES", "NODE", "bundle", "trusting", "way_out"]

NODE = "/etc/sandcove/proxy.cjs"
"""What Node.js before version 24 loads first: it knows no proxy by itself."""
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_NOT_BY_IT = "localhost,127.0.0.1,::1,0.0.0.0,127.0.0.0/8"
"""httpx can't read `[::1]` here."""


def way_out() -> dict[str, str]:
    """The variables, for the room that this process is in."""
    proxy = f"http://{PROXY_HOST}:{PROXY_PORT}"
    env = {}
    for name, value in (
        ("http_proxy", proxy),
        ("https_proxy", proxy),
        ("all_proxy", proxy),
        ("no_proxy", _NOT_BY_IT),
    ):
        # Half of the programs read the one form, half the other.
        env[name] = env[name.upper()] = value
    env["NODE_USE_ENV_PROXY"] = "1"
    if os.path.exists(NODE):
        env["NODE_OPTIONS"] = f"--require={NODE}"
    certificates = bundle()
    return env if certificates is None else env | trusting(certificates)


def bundle() -> str | None:
    """The file of certificates that the machine trusts."""
    return next(filter(os.path.exists, BUNDLES), None)


def trusting(certificates: str) -> dict[str, str]:
    """The variables by which programs trust the certificates in a file."""
    # Python's libraries and Node.js bring certificates of their own; the machine's are what its operator trusts.
    return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), certificates)
