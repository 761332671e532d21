"""Which ids and URLs out of a reply are used again."""

from typing import Any

import pytest

from rotoscope.providers.http.messages import Json, safe_id, same_origin_urls, strip_version


@pytest.mark.parametrize("value", ["688a7frg6nrme0cn5g1a7z9pmr", "764cabcf-b745-4b3e-ae38-1200304cf45b", "a.b_c:d~1"])
def test_the_ids_of_the_providers_are_usable(value: Any) -> None:
    assert safe_id(value) == value


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://queue.fal.run/a/requests/1", True),
        ("HTTPS://QUEUE.FAL.RUN/a", True),
        ("http://queue.fal.run/a", False),
        ("https://queue.fal.run:8443/a", False),
        ("https://queue.fal.run.evil.example/a", False),
        ("https://queue.fal.run@evil.example/a", False),
        ("https://queue.fal.run\\@evil.example/a", False),
        ("https://queue.fal.run", False),
        ("https://queue.fal.run/a b", False),
        ("https://queue.fal.run/a\n", False),
        ("https://queue.fal.run/a#b", False),
        ("//queue.fal.run/a", False),
        (None, False),
        (7, False),
    ],
)
def test_only_urls_on_our_own_origin_are_kept(url: Json, kept: bool) -> None:
    assert same_origin_urls({"u": url}, ["u"], "https://queue.fal.run") == ({"u": url} if kept else {})


def test_the_path_of_a_base_is_no_part_of_its_origin() -> None:
    url = "http://127.0.0.1:8000/fal/x"
    assert same_origin_urls({"u": url}, ["u"], "http://127.0.0.1:8000/queue") == {"u": url}


@pytest.mark.parametrize("base", ["https://host/replicate", "https://host/replicate/", "https://host/replicate/v1/"])
def test_a_base_means_the_same_with_and_without_its_version(base: str) -> None:
    assert strip_version(base) == "https://host/replicate"
