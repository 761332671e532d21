"""A certificate for 127.0.0.1, and the throw-away authority that signed it.

The official Replicate clients open an output only where its address is https: with plain http they hand out a bare
string. So the sandbox can be served over TLS; a client trusts its authority by `SSL_CERT_FILE` (Python, curl) or
`NODE_EXTRA_CA_CERTS` (Node), and nothing else on the machine changes.
"""

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Certificate", "NoCertificates", "make_certificate"]

_DAYS = 7
_NAMES = ("localhost",)
_ADDRESSES = ("127.0.0.1", "::1")


class NoCertificates(Exception):
    """The `cryptography` package is not installed."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM form.

    Attributes:
        authority: what clients are to trust.
        chain: what the server shows.
        key: the server's private key; readable by its owner alone.
    """

    authority: Path
    chain: Path
    key: Path


def make_certificate(folder: Path, now: dt.datetime) -> Certificate:
    """Make an authority and a certificate signed by it, both for some days; the authority's own key is kept nowhere.

    Raises:
        NoCertificates: the `cryptography` package is not installed.
        OSError: the folder cannot be written.
    """
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise NoCertificates from error
    authority, own_key, chain = _make_chain(now)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Certificate(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write_private(files.authority, authority.public_bytes(pem))
    _write_private(files.chain, chain.public_bytes(pem))
    _write_private(files.key, own_key.private_bytes(pem, form, serialization.NoEncryption()))
    return files


def _make_chain(now: dt.datetime) -> tuple[Any, Any, Any]:
    """The authority's certificate, the server's key and the server's certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signer, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _common_name("rotoscope sandbox (throw-away authority)")
    identifier = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
    authority = (
        _certificate_builder(now, issuer, issuer, signer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )
    places = [*map(x509.DNSName, _NAMES), *(x509.IPAddress(ipaddress.ip_address(one)) for one in _ADDRESSES)]
    chain = (
        _certificate_builder(now, _common_name("rotoscope sandbox"), issuer, own)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return authority, own, chain


def _common_name(name: str) -> Any:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])


def _certificate_builder(now: dt.datetime, subject: Any, issuer: Any, key: Any) -> Any:
    from cryptography import x509

    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    # An hour before: clocks of two programs on one machine agree, those of a container and its host may not.
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    return builder.not_valid_after(now + dt.timedelta(days=_DAYS)).serial_number(x509.random_serial_number())


def _key_usage(*, signs_certificates: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write_private(place: Path, content: bytes) -> None:
    place.unlink(missing_ok=True)
    opened = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "wb") as file:
        file.write(content)
