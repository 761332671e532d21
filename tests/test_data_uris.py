"""Data URIs, as browsers read them."""

import base64
import textwrap
from urllib.parse import quote

import pytest

from rotoscope.data_uris import read_data_uri
from rotoscope.errors import InvalidInput, TooLarge

CONTENT = bytes(range(256)) + b"\xfb\xff\xfe"
PLAIN = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{PLAIN}",
        f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
        f"data:;base64,{PLAIN}",
        f"data:image/png;charset=utf-8;name=a.png;base64,{PLAIN}",
        f"data:image/png;base64;base64,{PLAIN}",
        f"data:image/png;  base64,{PLAIN}",
        f"data:image/png;base64 ,{PLAIN}",
        f"data:image/png;base64, {PLAIN}",
        f"data:image/png;base64,{PLAIN.rstrip('=')}",
        "data:image/png;base64," + "\n".join(textwrap.wrap(PLAIN, 76)),
        "data:image/png;base64,\r\n" + "\r\n\t".join(textwrap.wrap(PLAIN, 64)) + "\r\n",
        "data:image/png;\nbase64," + " ".join(textwrap.wrap(PLAIN, 10)),
        f"data:image/png;base64,{quote(PLAIN, safe='')}",
        "data:image/png;base64," + "%0A".join(textwrap.wrap(PLAIN, 76)).replace("=", "%3D"),
        f"  data:image/png;base64,{PLAIN}\n",
        f"data:image/png;base64,{PLAIN}#fragment",
        f"data:,{quote(CONTENT, safe='')}",
        f"data:image/png,{quote(CONTENT)}",
        f"data:image/png;base64x,{quote(CONTENT, safe='')}",
    ],
)
def test_every_way_to_write_a_data_uri_gives_its_bytes(uri: str) -> None:
    assert read_data_uri(uri) == CONTENT


@pytest.mark.parametrize(
    ("body", "content"), [("YQ", b"a"), ("YR==", b"a"), ("YWI", b"ab"), ("YWJj", b"abc"), ("", b""), (" ", b"")]
)
def test_surplus_bits_at_the_end_are_dropped(body: str, content: bytes) -> None:
    assert read_data_uri(f"data:;base64,{body}") == content


@pytest.mark.parametrize(
    "body", ["Y", "YWJjZ", "YQ=", "YW=I", "YQ===", "====", "YQ-_", "Y!Q=", "a\u00e9bc", "%C3%A9aaa"]
)
def test_what_browsers_do_not_read_is_refused(body: str) -> None:
    with pytest.raises(InvalidInput, match="not valid base64") as refusal:
        read_data_uri(f"data:image/png;base64,{body}")
    assert refusal.value.code == "data_uri_invalid"


@pytest.mark.parametrize("uri", ["data:image/png;base64", "data:", "data:image/png;base64#,YWJj"])
def test_a_data_uri_without_data_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput, match="no comma"):
        read_data_uri(uri)


def test_the_size_of_what_is_decoded_counts_and_not_how_it_is_written() -> None:
    lines = "\n".join(textwrap.wrap(base64.b64encode(bytes(1000)).decode(), 4))
    assert len(read_data_uri(f"data:;base64,{lines}", most=1000)) == 1000
    for uri in (
        f"data:;base64,{lines}",
        "data:," + "a" * 1000,
        "data:," + "%41" * 1000,
        "data:;base64," + "\n" * 9000 + "YQ",
    ):
        with pytest.raises(TooLarge):
            read_data_uri(uri, most=999)
