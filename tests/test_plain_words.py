"""Names, docstrings and comments use plain technical words: those of the glossary, and none that were ours alone."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[1]
FILES = sorted(path for folder in ("src", "tests", "bench") for path in (TOP / folder).rglob("*.py"))
# Each was a word of a private vocabulary here, for which the field has another: again, expensive, reported, received,
# request, carried, budget, store, context and provider access.
_NOWHERE = "anew|dear|told|heard|wish|wishes|wished|borne|purse|shelf"
_COLUMNS = {"told_again_at"}  # as ledgers have it
_NOT_AS_NAMES = "door|doors|room|rooms"  # prose may say that there is room
_PROSE = re.compile(rf"\b({_NOWHERE})\b", re.IGNORECASE)
_NAME = re.compile(rf"(?:^|_)({_NOWHERE}|{_NOT_AS_NAMES})(?:_|$|\d)", re.IGNORECASE)
_ANYWHERE = re.compile(f"{_NOWHERE}|{_NOT_AS_NAMES}", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def split_words(name: str) -> str:
    """A name with an underscore between its words, however it is written."""
    return _CAPITAL.sub("_", name)


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Every text that stands alone: the docstrings of modules, classes, functions, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def private_words(source: str) -> set[str]:
    """What a source says in words that it must not use."""
    if not _ANYWHERE.search(source):
        return set()  # to read it closely would take long
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    prose = [token.string for token in tokens if token.type == tokenize.COMMENT] + list(docstrings(ast.parse(source)))
    return {name for name in names - _COLUMNS if _NAME.search(split_words(name))} | {
        found[0] for text in prose for found in _PROSE.finditer(text)
    }


def test_every_file_uses_plain_words() -> None:
    found = {
        str(path.relative_to(TOP)): words
        for path in FILES
        if path != Path(__file__) and (words := private_words(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_private_words_are_found_in_names_docstrings_and_comments_and_not_in_data() -> None:
    found = 'def was_told(roomCount):\n    """Heard anew."""\n    return "an empty room, my dear"  # a wish'
    assert private_words(found) == {"was_told", "roomCount", "Heard", "anew", "wish"}
    assert private_words('"""Has room for it."""\nbedroom, mushroom = "told", "dear"') == set()
