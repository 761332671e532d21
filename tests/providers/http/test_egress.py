"""The address guard: what may be connected to and, above all, what may not."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.errors import UnsafeSource
from rotoscope.providers.http.egress import Target, check_addresses, check_url, is_allowed_host, is_public

_PRIVATE_V4 = (
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.1.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
)
_PRIVATE_V6 = (
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "2606:4700:4700::1111%1",
    "64:ff9b:1:808:808:808:7f00:1",
    "64:ff9b:1:7f00:0:108:808:808",
)
_PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.17",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "64:ff9b:1:808:808:808:808:808",
)

_v4 = st.ip_addresses(v=4).map(lambda address: ipaddress.IPv4Address(int(address)))
_private_v4 = st.sampled_from([ipaddress.IPv4Address(text) for text in _PRIVATE_V4])


def _refusal(text: str) -> str:
    with pytest.raises(UnsafeSource) as caught:
        check_url(text)
    assert caught.value.hint
    assert caught.value.message.isascii()
    return caught.value.code


def _carriers(inner: ipaddress.IPv4Address) -> list[ipaddress.IPv6Address]:
    """An IPv4 address in every IPv6 form that a gateway may read it from."""
    bits = int(inner)
    forms = [
        bits,
        0xFFFF << 32 | bits,
        0xFFFF << 48 | bits,
        0x64FF9B << 96 | bits,
        0x64FF9B0001 << 80 | bits >> 16 << 64 | (bits & 0xFFFF) << 40,
        0x64FF9B0001 << 80 | bits >> 24 << 64 | (bits & 0xFFFFFF) << 32,
        0x64FF9B0001 << 80 | bits << 24,
        0x64FF9B0001 << 80 | bits,
        0x2002 << 112 | bits << 80 | 1,
        0x2001 << 112 | bits << 64,
        0x2001 << 112 | 0x08080808 << 64 | (bits ^ 0xFFFFFFFF),
        0x2606_4700_4700_0000 << 64 | 0x00005EFE << 32 | bits,
        0x2606_4700_4700_0000 << 64 | 0x02005EFE << 32 | bits,
    ]
    return [ipaddress.IPv6Address(form) for form in forms]


@pytest.mark.parametrize("address", _PRIVATE_V4 + _PRIVATE_V6)
def test_an_address_that_is_not_public_is_blocked(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", _PUBLIC)
def test_a_public_address_passes(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "2130706433",
        "8.8.8.8.",
        "\uff18.8.8.8",
        "[::1]",
        " 8.8.8.8",
    ],
)
def test_a_text_that_is_no_canonical_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@given(_private_v4)
def test_a_private_ipv4_address_is_blocked_in_every_ipv6_form(inner: ipaddress.IPv4Address) -> None:
    for carrier in _carriers(inner):
        assert not is_public(str(carrier)), carrier


@given(_v4)
def test_an_ipv6_form_of_an_ipv4_address_never_allows_more_than_that_address(inner: ipaddress.IPv4Address) -> None:
    for carrier in _carriers(inner):
        assert is_public(str(inner)) or not is_public(str(carrier)), carrier


@given(_v4)
def test_public_ipv4_addresses_are_allowed_in_unambiguous_ipv6_forms(inner: ipaddress.IPv4Address) -> None:
    mapped, sixtofour = f"::ffff:{inner}", str(ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80 | 1))
    assert is_public(mapped) == is_public(sixtofour) == is_public(str(inner))


@given(st.ip_addresses(v=4))
def test_the_guard_is_stricter_than_the_standard_library_for_ipv4(address: ipaddress.IPv4Address) -> None:
    loose = address.is_loopback or address.is_link_local or address.is_multicast or address.is_private
    assert not (loose and is_public(str(address)))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://example.com", Target("example.com", 443, "https://example.com/")),
        ("HTTPS://Example.COM:443/a?b=c#d", Target("example.com", 443, "https://example.com/a?b=c")),
        ("https://cdn.example.com:8443/x%20y", Target("cdn.example.com", 8443, "https://cdn.example.com:8443/x%20y")),
        (
            "https://my_bucket.example.com/é",
            Target("my_bucket.example.com", 443, "https://my_bucket.example.com/%C3%A9"),
        ),
        ("https://münchen.example/", Target("xn--mnchen-3ya.example", 443, "https://xn--mnchen-3ya.example/")),
        ("https://例え.テスト/", Target("xn--r8jz45g.xn--zckzah", 443, "https://xn--r8jz45g.xn--zckzah/")),
        ("https://8.8.8.8/", Target("8.8.8.8", 443, "https://8.8.8.8/")),
        ("https://[2606:4700::1111]/", Target("2606:4700::1111", 443, "https://[2606:4700::1111]/")),
        ("https://[2606:4700::1111]:8443/", Target("2606:4700::1111", 8443, "https://[2606:4700::1111]:8443/")),
        ("https://[::FFFF:8.8.8.8]/", Target("::ffff:8.8.8.8", 443, "https://[::ffff:8.8.8.8]/")),
        ("https://1.2.3.com/?a[]=1&q=é", Target("1.2.3.com", 443, "https://1.2.3.com/?a[]=1&q=%C3%A9")),
        ("https://example.com/a@b:c", Target("example.com", 443, "https://example.com/a@b:c")),
    ],
)
def test_a_plain_public_url_becomes_a_target(text: str, target: Target) -> None:
    assert check_url(text) == target
    assert check_url(target.url) == target


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "data:image/png;base64,AA==",
        "javascript:1",
        "example.com",
        "//example.com/",
        "gopher://127.0.0.1:70/_x",
        "",
    ],
)
def test_any_other_scheme_is_refused(text: str) -> None:
    assert _refusal(text) == "url_scheme"


@pytest.mark.parametrize(
    "text",
    [
        "https://",
        "https:example.com",
        "https:///example.com",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com%2f.evil.example/",
        "https://[fe80::1%25eth0]/",
        "https://example.com:/",
        "https://example.com:0443/",
        "https://example.com:44x/",
        "https://example.com:123456/",
        "https://example.com:443:443/",
        "https://example.com:\uff143/",
        "https://example.com./",
        "https://127.0.0.1./",
        "https://.example.com/",
        "https://exam..ple.com/",
        "https://-example.com/",
        "https://exa!mple.com/",
        "https://exa mple.com/",
        " https://example.com/",
        "https://example.com/\n",
        "https://example.com/\x00",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/\u200b",
        "https://example.com/\u202e",
        "https://exam\u00adple.com/",
        "https://example.com/\u3164",
        "https://example.com/\U000e0041",
        "https://example.com/\ufe0f",
        "https://example.com/\ud800",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0x/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://example.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127。0。0。1/",
        "https://127.0.0.1/",
        "https://ⓔxample.com/",
        "https://exampleﬁ.com/",
        "https://straße.example/",
        "https://ex\u2024ample.com/",
        "https://[::1/",
        "https://::1]/",
        "https://[]/",
        "https://[::g]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[2606:4700:0::1111]/",
        "https://[v1.x]/",
        "https://[127.0.0.1]/",
        "https://example.com[::1]/",
        "https://" + "a" * 64 + ".com/",
        "https://" + "a." * 130 + "com/",
        "https://" + "ü" * 260 + ".com/",
        "https://" + "ü" * 80 + ".com/",
        "https://example.com/" + "a" * 9000,
        "https://xn--.com\u0338/",
    ],
)
def test_an_unusual_spelling_of_a_url_is_refused(text: str) -> None:
    assert _refusal(text) in {"url_malformed", "url_blocked"}


@pytest.mark.parametrize(
    "text",
    [
        "https://localhost/",
        "https://LOCALHOST:8443/",
        "https://a.localhost/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://box.localdomain/",
        "https://abc.onion/",
        "https://vault.svc/",
        "https://db.default.svc.cluster.local/",
        "https://nas.lan/",
        "https://wiki.corp/",
        "https://router.home/",
        "https://router.home.arpa/",
        "https://wiki.intranet/",
        "https://box.test/",
        "https://db.service.consul/",
        "https://site.i2p/",
        "https://metadata.goog/",
        "https://a.metadata.goog/",
        "https://127.0.0.1.nip.io/",
        "https://10-0-0-1.sslip.io/",
        "https://localtest.me/",
        "https://intranet/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00:ec2::254]/",
        "https://example.com:80/",
        "https://example.com:22/",
        "https://example.com:65536/",
    ],
)
def test_a_private_name_address_or_port_is_blocked(text: str) -> None:
    assert _refusal(text) == "url_blocked"


@given(_private_v4, st.sampled_from(["{0}", "0x{0:x}", "0{0:o}", "0{0}", "{0:08b}"]))
def test_one_number_is_no_host(address: ipaddress.IPv4Address, spelling: str) -> None:
    assert _refusal(f"https://{spelling.format(int(address))}/") in {"url_malformed", "url_blocked"}


@given(_private_v4, st.lists(st.sampled_from(["{0}", "0x{0:x}", "0{0:o}", "00{0}"]), min_size=4, max_size=4))
def test_no_spelling_of_a_private_ipv4_address_is_allowed(address: ipaddress.IPv4Address, spellings: list[str]) -> None:
    quad = ".".join(how.format(part) for how, part in zip(spellings, address.packed, strict=True))
    assert _refusal(f"https://{quad}/") in {"url_malformed", "url_blocked"}


_DIGITS = st.sampled_from([0x0030, 0xFF10, 0x0660, 0x06F0, 0x0966, 0x1D7CE, 0x1D7D8, 0x1D7F6, 0x2080, 0x2070])
_DOTS = st.sampled_from([".", "。", "\uff0e", "｡", "\u2024"])


@given(_private_v4, _DIGITS, _DOTS)
def test_unicode_digits_and_dots_do_not_hide_a_private_address(
    address: ipaddress.IPv4Address, zero: int, dot: str
) -> None:
    text = "".join(dot if char == "." else chr(zero + int(char)) for char in str(address))
    if text == str(address):
        return
    try:
        target = check_url(f"https://{text}/")
    except UnsafeSource:
        return
    # Digits of other scripts are letters of a name: it must stay one.
    assert target.host.startswith("xn--")


@given(st.text(max_size=40))
def test_any_text_gives_a_target_or_a_refusal(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://{text}.example.com/", f"https://example.com/{text}"):
        try:
            target = check_url(candidate)
        except UnsafeSource as refusal:
            assert refusal.code in {"url_scheme", "url_malformed", "url_blocked"}  # noqa: PT017 - either outcome is right
        else:
            assert target.url.isascii()
            assert check_url(target.url) == target


@given(_v4, st.lists(_v4, max_size=4), st.lists(_v4, max_size=4))
def test_one_private_address_refuses_the_name(
    bad: ipaddress.IPv4Address, before: list[object], after: list[object]
) -> None:
    target = check_url("https://example.com/")
    addresses = [str(address) for address in (*before, bad, *after)]
    if all(map(is_public, addresses)):
        assert check_addresses(target, addresses) == tuple(dict.fromkeys(addresses))
        return
    with pytest.raises(UnsafeSource) as caught:
        check_addresses(target, addresses)
    assert caught.value.code == "url_blocked"


def test_the_families_of_a_names_addresses_take_turns_from_the_resolvers_choice_on() -> None:
    target = check_url("https://example.com/")
    six, four = ["2606:2800::1", "2606:2800::2", "2606:2800::3"], ["8.8.8.8", "9.9.9.9"]
    assert check_addresses(target, six + four) == (six[0], four[0], six[1], four[1], six[2])
    assert check_addresses(target, four + six) == (four[0], six[0], four[1], six[1], six[2])
    assert check_addresses(target, six + six) == tuple(six)


def test_a_name_with_public_and_private_addresses_is_refused_in_any_order() -> None:
    target = check_url("https://example.com/")
    for addresses in (["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["8.8.8.8", "fe80::1%2"]):
        with pytest.raises(UnsafeSource, match="not public"):
            check_addresses(target, addresses)


def test_a_name_without_an_address_is_unreachable() -> None:
    with pytest.raises(UnsafeSource) as caught:
        check_addresses(check_url("https://example.com/"), [])
    assert caught.value.code == "url_unreachable"


@pytest.mark.parametrize(
    ("host", "patterns", "allowed"),
    [
        ("replicate.delivery", ["replicate.delivery"], True),
        ("v3.fal.media", ["*.fal.media"], True),
        ("a.b.FAL.media", ["*.Fal.media"], True),
        ("fal.media", ["*.fal.media"], False),
        (".fal.media", ["*.fal.media"], False),
        ("evilfal.media", ["*.fal.media"], False),
        ("fal.media.evil.example", ["*.fal.media", "fal.media"], False),
        ("sub.replicate.delivery", ["replicate.delivery"], False),
        ("example.com", ["*"], False),
        ("example.com", [], False),
    ],
)
def test_a_host_is_on_the_list_or_below_a_starred_name(host: str, patterns: list[str], allowed: bool) -> None:
    assert is_allowed_host(host, patterns) is allowed


def test_an_error_shows_neither_the_query_nor_the_password_of_a_url() -> None:
    for text in (
        "http://a.example/?signature=hunter2",
        "https://u:hunter2@a.example/",
        "https://a.example:99/?k=hunter2",
    ):
        with pytest.raises(UnsafeSource) as caught:
            check_url(text)
        assert "hunter2" not in caught.value.message + caught.value.hint
