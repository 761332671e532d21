"""Proxies and certificates: read and checked from the environment before anything is opened."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.providers.http.proxies import read_proxy_settings

UNUSABLE = {
    "a scheme that nobody speaks": ("ALL_PROXY", "socks://127.0.0.1:1080/"),
    "socks without the package": ("ALL_PROXY", "socks5://127.0.0.1:1080"),
    "socks by name without the package": ("https_proxy", "socks5h://user:s3cret@127.0.0.1:1080"),
    "socks4": ("HTTPS_PROXY", "socks4://127.0.0.1:1080"),
    "a file": ("HTTPS_PROXY", "file:///etc/proxy"),
    "no host": ("HTTPS_PROXY", "http://"),
    "no host but a password": ("HTTP_PROXY", "http://user:s3cret@:3128"),
    "a port that is none": ("HTTPS_PROXY", "http://user:s3cret@proxy.example:99999"),
    "port 0": ("HTTPS_PROXY", "http://proxy.example:0"),
    "a port in words": ("http_proxy", "http://proxy.example:web"),
    "a blank": ("HTTPS_PROXY", "http://proxy example:3128"),
    "a control character": ("HTTPS_PROXY", "http://proxy\x00.example:3128"),
    "a host with other letters": ("HTTPS_PROXY", "http://pröxy.example:3128"),
    "half an address": ("HTTPS_PROXY", "http://[::1:3128"),
    "certificates that do not exist": ("SSL_CERT_FILE", "/nowhere/s3cret.pem"),
    "a folder as certificates": ("SSL_CERT_FILE", "/"),
    "no certificates": ("SSL_CERT_FILE", __file__),
    "a folder that does not exist": ("SSL_CERT_DIR", "/nowhere/s3cret"),
    "a log of secrets nowhere": ("SSLKEYLOGFILE", "/nowhere/s3cret"),
}


@pytest.mark.parametrize(("name", "value"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_variable_that_cannot_be_used_is_refused_by_its_name_without_its_value(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_proxy_settings({name: value}, has_socks=lambda: False)
    assert caught.value.message.startswith(name)
    assert "s3cret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("value", ["http://127.0.0.1:1", "socks://127.0.0.1:1080", "http://proxy.example:99999"])
def test_an_unused_proxy_variable_is_not_checked(value: str) -> None:
    own = {"HTTP_PROXY": "http://proxy.example:3128", "HTTPS_PROXY": "proxy.example:3128"}
    assert (
        read_proxy_settings({**own, "ALL_PROXY": value}).proxy_for("https://a.example/") == "http://proxy.example:3128"
    )


def test_socks_proxies_are_accepted_where_they_can_be_used() -> None:
    proxies = read_proxy_settings({"ALL_PROXY": "socks5://127.0.0.1:1080"}, has_socks=lambda: True)
    assert (
        proxies.proxy_for("https://a.example/") == proxies.proxy_for("http://a.example/") == "socks5://127.0.0.1:1080"
    )


PROXY = "http://proxy.example:3128"
ROADS: tuple[tuple[Mapping[str, str], str | None], ...] = (
    ({}, None),
    ({"HTTPS_PROXY": PROXY}, PROXY),
    ({"https_proxy": PROXY}, PROXY),
    ({"ALL_PROXY": PROXY}, PROXY),
    ({"HTTP_PROXY": PROXY}, None),
    ({"HTTPS_PROXY": ""}, None),
    ({"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
    ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example:1"}, PROXY),
    ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other.example:1"}, PROXY),
)


@pytest.mark.parametrize(("variables", "proxy"), ROADS)
def test_the_proxy_comes_from_the_first_variable_that_is_set(variables: Mapping[str, str], proxy: str | None) -> None:
    assert read_proxy_settings(variables).proxy_for("https://api.replicate.com/v1/predictions") == proxy


@pytest.mark.parametrize(
    ("direct", "url", "proxied"),
    [
        ("*", "https://a.example/", False),
        ("a.example", "https://a.example/", False),
        ("A.Example", "https://a.example/", False),
        ("other.example, a.example ", "https://a.example/", False),
        ("a.example", "https://x.a.example/", False),
        (".a.example", "https://x.a.example/", False),
        (".a.example", "https://a.example/", False),
        ("*.a.example", "https://x.a.example/", False),
        ("a.example", "https://ba.example/", True),
        ("a.example:443", "https://a.example/", False),
        ("a.example:8443", "https://a.example/", True),
        ("http://a.example", "https://a.example/", True),
        ("https://a.example", "https://a.example/", False),
        ("127.0.0.1", "http://127.0.0.1:8000/", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/", False),
        ("127.0.0.1:8001", "http://127.0.0.1:8000/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", False),
        ("10.0.0.0/8", "http://11.1.2.3/", True),
        ("::1", "http://[::1]:8000/", False),
        ("[::1]:8000", "http://[::1]:8000/", False),
        ("localhost", "http://localhost:8000/", False),
        (",, ,", "https://a.example/", True),
        ("2001:db8::/32", "https://a.example/", True),
    ],
)
def test_hosts_in_no_proxy_are_connected_to_directly(direct: str, url: str, proxied: bool) -> None:
    proxies = read_proxy_settings({"ALL_PROXY": PROXY, "NO_PROXY": direct})
    assert (proxies.proxy_for(url) == PROXY) is proxied


def test_proxy_settings_never_show_a_password() -> None:
    assert "s3cret" not in repr(read_proxy_settings({"ALL_PROXY": "http://user:s3cret@proxy.example:3128"}))


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks://127.0.0.1:1"), ("SSL_CERT_FILE", "/nowhere/certificates.pem")]
)
def test_a_command_refuses_a_bad_proxy_before_it_writes_anything(tmp_path: Path, name: str, value: str) -> None:
    home = tmp_path / "home"
    kept = {key: given for key, given in os.environ.items() if "proxy" not in key.lower()}
    own = {"ROTOSCOPE_HOME": str(home), "ROTOSCOPE_SANDBOX": "never", "REPLICATE_API_TOKEN": "r8_3f9a0c", name: value}
    asked = [
        sys.executable,
        "-m",
        "rotoscope",
        "call",
        "segment_image",
        "--json",
        '{"image": "https://a.example/b.png"}',
    ]
    ended = subprocess.run(asked, env=kept | own, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["error"]["message"].startswith(name)
    assert "Traceback" not in ended.stderr
    assert not home.exists()
