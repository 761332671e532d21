"""The pure changes of configuration texts: our entry comes and goes, and every other byte stays where it is."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

import json5
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.cli.clients.edits import (
    Change,
    EditRefused,
    Entry,
    Format,
    apply_edits,
    invert_changes,
    put_and_check,
    remove_and_check,
)
from rotoscope.cli.clients.jsonc import JSONC
from rotoscope.cli.clients.toml_text import TOML
from rotoscope.cli.clients.yaml_text import YAML_FORMAT

ENTRY: Entry = {"command": "/opt/ü b/rotoscope", "args": ["serve"], "env": {"ROTOSCOPE_HOME": "C:\\x"}}
OTHER: Entry = {"command": "other"}
JSON_TEXTS = [
    '{"a": 1}',
    '{"mcpServers": {}}',
    '{\n  "mcpServers": {}\n}\n',
    '{ "a": 1 /* why */ }',
    '{\n  "a": 1 // why\n}\n',
    '{\n\t"mcpServers": {\n\t\t"fs": {"command": "x"}, // mine\n\t},\n}',
    '{\r\n  "mcpServers": {\r\n    // none yet\r\n  }\r\n}\r\n',
    '{\n  "mcpServers": {\n    "fs": {"args": [1, 2,],},\n    // "old": {}\n  }\n}',
    '{"mcpServers": {"fs": {},}}',
    '// head\n{\n    /* first */ "ключ": "значение \\" // no comment", "mcpServers": {"fs": {}} }',
    '{\n  "a": 1 /* over\n  two lines */ }',
]
TOML_TEXTS = [
    'model = "x"\n',
    'model = "x"',
    '[mcp_servers.fs]\ncommand = "x" # mine\n\n[tui]\ntheme = "dark"\n',
    'x = """\n[mcp_servers.rotoscope]\n"""\nlist = [\n["a"],\n]\n',
    '[mcp_servers]\n\n[mcp_servers."a b"]\r\ncommand = "x"\r\n',
    "mcp_servers = {fs = {command = 'x', args = [\n  'a, }', # one\n]}} # mine\n\n[tui]\ntheme = 1\n",
    'model = "x"\nmcp_servers = {}\n[tui]\na = """\nmcp_servers = {}\n"""\n',
    'mcp_servers."a.b" = { command = "x" }\r\nmodel = "y"\r\n\r\n[[list]]\r\na = 1\r\n',
    "mcp_servers.fs.command = 'x'\nmcp_servers.fs.args = []",
    '[mcp_servers]\nfs = { command = "x" }\n\n[tui]\n',
]
YAML_TEXTS = [
    "GOOSE_MODEL: x\n",
    "GOOSE_MODEL: x",
    "extensions:\n  developer:\n    enabled: true # on\n# end\nGOOSE_MODEL: x\n",
    "extensions: {}\n",
    "extensions:   # none yet\nGOOSE_MODEL: x\n",
    "extensions: {fs: {enabled: true}, }\n",
    "extensions:\r\n    fs:\r\n        args:\r\n        - x\r\n        note: |\r\n            a\r\n\r\n    # z\r\n",
    "---\nGOOSE_MODEL: x\nextensions:\n- fs\n",
]
ALL = [
    *((JSONC, "mcpServers", text) for text in JSON_TEXTS),
    *((TOML, "mcp_servers", text) for text in TOML_TEXTS),
    *((YAML_FORMAT, "extensions", text) for text in YAML_TEXTS[:-1]),
]
PARSERS: dict[str, Callable[[str], Any]] = {
    "mcpServers": json5.loads,
    "mcp_servers": tomllib.loads,
    "extensions": yaml.safe_load,
}


def put(form: Format, text: str, container: str, name: str, entry: Entry) -> str:
    return apply_edits(text, put_and_check(form, text, container, name, entry))


def remove(form: Format, text: str, container: str, name: str, *, with_container: bool = False) -> str:
    changes = remove_and_check(form, text, container, name, with_container=with_container)
    return apply_edits(text, changes)


@pytest.mark.parametrize(("form", "container", "text"), ALL, ids=[repr(text)[:40] for _, _, text in ALL])
def test_an_entry_is_only_added_and_the_result_parses_with_another_parser(
    form: Format, container: str, text: str
) -> None:
    changes = put_and_check(form, text, container, "rotoscope", ENTRY)
    assert all(change.start == change.end for change in changes), "something was replaced"
    before, after = PARSERS[container](text), PARSERS[container](apply_edits(text, changes))
    assert after[container].pop("rotoscope") == ENTRY
    assert after[container] == (before.get(container) or {})
    assert {**after, container: 0} == {**before, container: 0}


@pytest.mark.parametrize(("form", "container", "text"), ALL, ids=[repr(text)[:40] for _, _, text in ALL])
def test_the_inverse_of_a_change_gives_the_text_that_was_there(form: Format, container: str, text: str) -> None:
    changes = put_and_check(form, text, container, "rotoscope", ENTRY)
    assert apply_edits(apply_edits(text, changes), invert_changes(text, changes)) == text


@pytest.mark.parametrize(("form", "container", "text"), ALL, ids=[repr(text)[:40] for _, _, text in ALL])
def test_an_entry_that_is_taken_out_leaves_what_was_there_but_for_a_newline_at_the_end(
    form: Format, container: str, text: str
) -> None:
    had_container = container in form.read(text)
    left = remove(
        form, put(form, text, container, "rotoscope", ENTRY), container, "rotoscope", with_container=not had_container
    )
    assert left.rstrip() == text.rstrip()


@pytest.mark.parametrize(("form", "container", "text"), ALL, ids=[repr(text)[:40] for _, _, text in ALL])
def test_an_entry_between_others_is_taken_out_and_the_others_stay(form: Format, container: str, text: str) -> None:
    with_both = put(form, put(form, text, container, "rotoscope", ENTRY), container, "other", OTHER)
    left = PARSERS[container](remove(form, with_both, container, "rotoscope", with_container=True))
    assert "rotoscope" not in left[container]
    assert left == PARSERS[container](put(form, text, container, "other", OTHER))


@pytest.mark.parametrize(("form", "container", "text"), ALL, ids=[repr(text)[:40] for _, _, text in ALL])
def test_an_entry_that_is_there_is_replaced_where_it_stands(form: Format, container: str, text: str) -> None:
    once = put(form, text, container, "rotoscope", ENTRY)
    twice = put(form, put(form, once, container, "rotoscope", OTHER), container, "rotoscope", ENTRY)
    assert twice == once


@pytest.mark.parametrize(
    ("form", "container", "text"),
    [
        (JSONC, "mcpServers", ""),
        (JSONC, "mcpServers", "// nothing yet\n"),
        (TOML, "mcp_servers", ""),
        (YAML_FORMAT, "extensions", ""),
        (YAML_FORMAT, "extensions", "# nothing yet\n"),
    ],
)
def test_a_text_that_says_nothing_becomes_a_whole_one(form: Format, container: str, text: str) -> None:
    after = put(form, text, container, "rotoscope", ENTRY)
    assert after.startswith(text)
    assert after.endswith("\n")
    assert PARSERS[container](after) == {container: {"rotoscope": ENTRY}}


@pytest.mark.parametrize(
    ("form", "container", "text", "words"),
    [
        (JSONC, "mcpServers", '{"a": 1', "not JSON (line 1, column 8"),
        (JSONC, "mcpServers", "[]", "no JSON object"),
        (JSONC, "mcpServers", '{"a": 1,, "b": 2}', "not JSON"),
        (JSONC, "mcpServers", "{,}", "not JSON"),
        (JSONC, "mcpServers", '{"a": NaN}', "not JSON"),
        (JSONC, "mcpServers", '{"a": "two\nlines"}', "not JSON"),
        (JSONC, "mcpServers", '{"a": 1} /* no end', "not JSON"),
        (JSONC, "mcpServers", "[" * 100_000, "not JSON"),
        (JSONC, "mcpServers", '{"mcpServers": []}', "something else than servers under mcpServers"),
        (JSONC, "mcpServers", '{"mcpServers": {}, "mcpServers": {}}', "names mcpServers twice"),
        (JSONC, "mcpServers", '{"mcpServers": {"rotoscope": {}, "rotoscope": {}}}', "names rotoscope twice"),
        (TOML, "mcp_servers", "a = \n", "not TOML"),
        (TOML, "mcp_servers", "mcp_servers.rotoscope.command = 'x'\n", "without touching the rest"),
        (TOML, "mcp_servers", "mcp_servers = [1]\n", "something else than servers under mcp_servers"),
        (YAML_FORMAT, "extensions", "a: [1", "not YAML (line 1"),
        (YAML_FORMAT, "extensions", "a: 1\na: 2\n", "not YAML"),
        (YAML_FORMAT, "extensions", "- a\n", "no YAML mapping"),
        (YAML_FORMAT, "extensions", YAML_TEXTS[-1], "something else than servers under extensions"),
        (YAML_FORMAT, "extensions", "base: &x {a: 1}\nextensions: *x\n", "without touching the rest"),
    ],
)
def test_a_text_that_cannot_be_changed_safely_is_refused_in_words(
    form: Format, container: str, text: str, words: str
) -> None:
    with pytest.raises(EditRefused) as refused:
        put_and_check(form, text, container, "rotoscope", ENTRY)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("mcp_servers = { fs = {}, rotoscope = {} }\n", "mcp_servers = { fs = {}, rotoscope = NEW }\n"),
        ("mcp_servers.rotoscope = { a = 1 } # mine\n", "mcp_servers.rotoscope = NEW # mine\n"),
        ("[mcp_servers]\nrotoscope = { a = 1 }\nfs = {}\n", "[mcp_servers]\nrotoscope = NEW\nfs = {}\n"),
    ],
)
def test_an_entry_between_braces_is_replaced_there_and_taken_out_of_there(text: str, after: str) -> None:
    assert put(TOML, text, "mcp_servers", "rotoscope", OTHER) == after.replace("NEW", '{ command = "other" }')
    left = tomllib.loads(remove(TOML, text, "mcp_servers", "rotoscope", with_container=True))
    assert left == ({} if "fs" not in text else {"mcp_servers": {"fs": {}}})


def test_duplicate_members_elsewhere_are_none_of_our_business() -> None:
    text = '{"a": 1, "a": 2, "mcpServers": {"fs": {"x": 1, "x": 2}}}'
    after = put(JSONC, text, "mcpServers", "rotoscope", ENTRY)
    assert after.startswith(text[:-2])


def test_changes_at_one_place_keep_their_order() -> None:
    assert apply_edits("ad", [Change(1, 1, "b"), Change(1, 1, "c")]) == "abcd"


# Random texts: every way to write blanks and comments where JSON allows them.
_GAPS = st.sampled_from(["", " ", "\n", "\n  ", "\r\n\t", "/* , } */", ' // ] "\n', "  \n\n"])
_KEYS = st.text(st.characters(codec="utf-8"), max_size=6)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), _KEYS)


@st.composite
def json_text(draw: st.DrawFn, depth: int = 0) -> str:
    """A JSON object with comments, trailing commas and any layout."""
    members = []
    keys = draw(st.lists(_KEYS.filter(lambda key: key not in {"mcpServers", "rotoscope"}), max_size=3, unique=True))
    if depth == 0 and draw(st.booleans()):
        keys.insert(draw(st.integers(0, len(keys))), "mcpServers")
    for key in keys:
        nested = key == "mcpServers" or (depth < 2 and draw(st.booleans()))
        value = draw(json_text(depth + 1)) if nested else json.dumps(draw(_LEAVES), ensure_ascii=draw(st.booleans()))
        gaps = [draw(_GAPS) for _ in range(4)]
        members.append(f"{gaps[0]}{json.dumps(key)}{gaps[1]}:{gaps[2]}{value}{gaps[3]}")
    ending = draw(st.sampled_from(["", ","])) if members else ""
    body = "{" + ",".join(members) + ending + draw(_GAPS) + "}"
    return draw(_GAPS) + body + draw(_GAPS) if depth == 0 else body


@given(json_text())
def test_any_json_text_keeps_its_bytes_and_gets_the_entry_alone(text: str) -> None:
    changes = put_and_check(JSONC, text, "mcpServers", "rotoscope", ENTRY)
    after = apply_edits(text, changes)
    assert all(change.start == change.end for change in changes)
    assert json5.loads(after)["mcpServers"]["rotoscope"] == ENTRY
    assert apply_edits(after, invert_changes(text, changes)) == text


@given(json_text(), st.booleans())
def test_any_json_text_loses_the_entry_alone_when_others_came_after_it(text: str, goes_first: bool) -> None:
    first, second = ("rotoscope", "other") if goes_first else ("other", "rotoscope")
    both = put(JSONC, put(JSONC, text, "mcpServers", first, ENTRY), "mcpServers", second, ENTRY)
    left = remove(JSONC, both, "mcpServers", "rotoscope", with_container=True)
    expected = put(JSONC, text, "mcpServers", "other", ENTRY)
    assert JSONC.read(left) == JSONC.read(expected)
    comments = [left.count(sign) for sign in ("/*", "//", "*/")]
    assert comments == [expected.count(sign) for sign in ("/*", "//", "*/")]


_YAML_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text("ab: #-\n'\"", max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc_", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["A", "B", "extensions", "z"]), _YAML_VALUES, max_size=4),
    st.integers(1, 6),
    st.sampled_from([True, False, None]),
)
def test_any_yaml_text_keeps_its_bytes_and_gets_the_entry_alone(
    data: dict[str, Any], indent: int, is_flow: bool | None
) -> None:
    data["extensions"] = data.get("extensions") if isinstance(data.get("extensions"), dict) else {"fs": {"a": 1}}
    text = yaml.safe_dump(data, indent=indent, default_flow_style=is_flow, sort_keys=False)
    changes = put_and_check(YAML_FORMAT, text, "extensions", "rotoscope", ENTRY)
    after = apply_edits(text, changes)
    assert all(change.start == change.end for change in changes)
    assert yaml.safe_load(after)["extensions"]["rotoscope"] == ENTRY
    left = yaml.safe_load(remove(YAML_FORMAT, after, "extensions", "rotoscope"))
    assert (left.pop("extensions") or {}) == (data.pop("extensions") or {})
    assert left == data
