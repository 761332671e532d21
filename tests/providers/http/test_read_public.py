"""A small document at a public address, read over real TLS: without a key, in bounds, and no redirect is followed."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rotoscope.errors import ReplyLost, UnsafeSource
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.proxies import ProxySettings

pytestmark = pytest.mark.anyio
URL = "https://app.example/client.json"
KEY = "r8_a_real_key"


def make_certificate(folder: Path) -> Path:
    """A certificate of app.example that vouches for itself, with its key, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("app.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(built.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@asynccontextmanager
async def served(folder: Path, answer: bytes) -> AsyncIterator[tuple[Wire, list[bytes]]]:
    """A wire to a host that is reached through a proxy alone, which answers so; with the requests that it has read."""
    file, received = make_certificate(folder), list[bytes]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            assert (await stream.receive()).startswith(b"CONNECT app.example:443 ")
            await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
            inside = await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)
            received.append(await inside.receive())
            await inside.send(answer)

    async def resolve(_: str, __: int) -> Sequence[str]:
        return ()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    proxies = ProxySettings({"https": f"http://127.0.0.1:{port}"}, certificates=str(file))
    wire = Wire({"replicate": ProviderAccess("Authorization", "Bearer ", KEY)}, resolve=resolve, proxies=proxies)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        with anyio.fail_after(60):
            yield wire, received
        await wire.aclose()
        tasks.cancel_scope.cancel()


async def test_a_document_is_read_without_a_key(tmp_path: Path) -> None:
    answer = b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncache-control: max-age=60\r\n\r\n{"a": "b"}'
    async with served(tmp_path, answer) as (wire, received):
        reply = await wire.read_public(URL, 100)
    assert (reply.status, reply.fields(), reply.headers["cache-control"]) == (200, {"a": "b"}, "max-age=60")
    assert len(received) == 1
    assert received[0].startswith(b"GET /client.json HTTP/1.1\r\n")
    assert KEY.encode() not in received[0]


async def test_a_redirect_is_an_answer(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 302 Found\r\nlocation: https://app.example/other\r\ncontent-length: 0\r\n\r\n"
    async with served(tmp_path, answer) as (wire, received):
        assert (await wire.read_public(URL, 100)).status == 302
    assert len(received) == 1


async def test_more_bytes_than_are_wanted_are_not_read(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101
    async with served(tmp_path, answer) as (wire, _):
        with pytest.raises(ReplyLost):
            await wire.read_public(URL, 100)


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/c.json", "https://169.254.169.254/c.json", "http://app.example/c.json", "https://[::1]/c"],
)
async def test_an_address_that_is_not_public_is_never_asked(tmp_path: Path, url: str) -> None:
    async with served(tmp_path, b"") as (wire, received):
        with pytest.raises(UnsafeSource):
            await wire.read_public(url, 100)
    assert received == []
