"""`rotoscope explain`: every error code that can be met is explained, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rotoscope
from rotoscope.cli.commands import run_command
from rotoscope.cli.explain import errors_page, read_explanations

SOURCE = Path(rotoscope.__file__).parent
ROOT_CODE = "error"  # of the root of the tree, which is never raised itself
OF_PROTOCOLS = {"authorization_code", "invalid_client_metadata"}  # OAuth names its own errors


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Codes as they are written: `code = "x"`, `code="x"`, `code: str = "x"` and `ErrorRecord("x", ...)`."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value):
                yield from texts_in(value)
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                yield from texts_in(value)
            case ast.Call(func=ast.Name(id="ErrorRecord"), args=[value, *_]):
                yield from texts_in(value)
            case ast.arguments():
                placed = [*node.posonlyargs, *node.args]
                named = [*placed[len(placed) - len(node.defaults) :], *node.kwonlyargs]
                defaults = [*node.defaults, *node.kw_defaults]
                for one, default in zip(named, defaults, strict=True):
                    if one.arg == "code" and default is not None:
                        yield from texts_in(default)


def texts_in(value: ast.AST) -> Iterator[str]:
    match value:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from (*texts_in(body), *texts_in(other))


def codes_that_can_be_met() -> set[str]:
    from rotoscope.providers.dialects.failures import POLICY

    found = {code for file in SOURCE.rglob("*.py") for code in codes_in(ast.parse(file.read_text(encoding="utf-8")))}
    return (found | {POLICY}) - {ROOT_CODE} - OF_PROTOCOLS


def test_every_code_is_explained_and_every_explanation_has_a_code() -> None:
    explained = read_explanations(errors_page())
    assert set(explained) == codes_that_can_be_met()
    assert all(len(text) > 40 for text in explained.values())


@pytest.mark.parametrize("code", sorted(read_explanations(errors_page())))
def test_a_code_is_explained_on_the_command_line(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", code]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{code}\n\n")
    assert "##" not in printed


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain"]) == 0
    assert set(capsys.readouterr().out.split()) == set(read_explanations(errors_page()))


def test_a_code_that_is_misspelled_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "budgets"]) == 2
    assert "Did you mean budget?" in capsys.readouterr().err


def test_an_error_of_a_command_says_where_more_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["jobs", "show", "0" * 32]) == 2
    assert "rotoscope explain unknown_job" in capsys.readouterr().err
