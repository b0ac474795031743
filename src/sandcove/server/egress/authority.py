"""The authority of one sandbox: it vouches for the hosts whose TLS is ended at the proxy, and nobody else trusts it."""

from __future__ import annotations

import datetime
import os
import ssl
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from sandcove.errors import HostUnsupportedError
from sandcove.wire.egress import is_address

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder

__all__ = ["Authority", "trusted"]

KEPT = 64
"""Hosts whose contexts are kept."""
RENEWED = 30 * 86400.0
"""Seconds after which a host gets a new certificate."""
_EARLIER = datetime.timedelta(days=1)
_LASTS = datetime.timedelta(days=20 * 365)
_LEAF_LASTS = datetime.timedelta(days=90)


def trusted() -> ssl.SSLContext:
    """How hosts are checked: by the machine's trust store, or by SSL_CERT_FILE and SSL_CERT_DIR of the server."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Authority:
    """One authority. Its key stays in the server.

    Args:
        pem: what `make` gave.

    Attributes:
        certificate: what the sandbox has to trust, as PEM.

    Raises:
        HostUnsupportedError: the library is missing.
    """

    def __init__(self, pem: str) -> None:
        _needs_library()
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
        from cryptography.x509 import load_pem_x509_certificate

        key = load_pem_private_key(pem.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._own = load_pem_x509_certificate(pem.encode())
        self.certificate = self._own.public_bytes(Encoding.PEM).decode()
        self._contexts: dict[str, tuple[float, ssl.SSLContext]] = {}

    @staticmethod
    def make() -> str:
        """A new one's key and certificate, as PEM.

        Raises:
            HostUnsupportedError: the library is missing.
        """
        _needs_library()
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509 import BasicConstraints, KeyUsage, SubjectKeyIdentifier

        key = ec.generate_private_key(ec.SECP256R1())
        name = f"Sandcove sandbox authority {os.urandom(4).hex()}"
        usage = KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _begun(name, name, key, _LASTS)
            .add_extension(BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        return _pem(key) + certificate.public_bytes(Encoding.PEM).decode()

    def context(self, host: str) -> ssl.SSLContext:
        """What TLS to this host, a name or an address, is ended with; HTTP/1.1 is all that is spoken in it."""
        made_at, context = self._contexts.get(host, (0.0, None))
        now = time.monotonic()
        if context is None or now - made_at > RENEWED:
            context = self._made(host)
            self._contexts.pop(host, None)
            if len(self._contexts) >= KEPT:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[host] = now, context
        return context

    def _made(self, host: str) -> ssl.SSLContext:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding

        key = ec.generate_private_key(ec.SECP256R1())
        pem = _pem(key) + self._leaf(host, key).public_bytes(Encoding.PEM).decode()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        # It is loaded from a file alone; this one is in memory.
        file = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(file, pem.encode())
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context

    def _leaf(self, host: str, key: EllipticCurvePrivateKey) -> Certificate:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.x509 import (
            AuthorityKeyIdentifier,
            BasicConstraints,
            DNSName,
            ExtendedKeyUsage,
            IPAddress,
            SubjectAlternativeName,
        )
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        name = IPAddress(ip_address(host)) if is_address(host) else DNSName(host)
        issuer = self._own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return (
            _begun(host[:64], str(issuer), key, _LEAF_LASTS)
            .add_extension(SubjectAlternativeName([name]), critical=False)
            .add_extension(BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, SHA256())
        )


def _needs_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise HostUnsupportedError(
            "TLS can't be ended here: the server lacks the library cryptography; "
            "`pip install 'sandcove[secrets]'` brings it"
        ) from None


def _begun(subject: str, issuer: str, key: EllipticCurvePrivateKey, lasts: datetime.timedelta) -> CertificateBuilder:
    from cryptography.x509 import CertificateBuilder, Name, NameAttribute, random_serial_number
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)
    return (
        CertificateBuilder()
        .subject_name(Name([NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(Name([NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(random_serial_number())
        # Clocks differ.
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + lasts)
    )


def _pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
