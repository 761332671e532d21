"""`rotoscope tokens`: bearer tokens for those who may call the server over HTTP."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from rotoscope.contracts.times import timestamp
from rotoscope.settings import Settings

__all__ = ["add_parser", "print_columns"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its actions."""
    tokens = commands.add_parser("tokens", help="make, list and revoke the bearer tokens of a server over HTTP")
    actions = tokens.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a token for somebody, and print it once")
    add.add_argument("name", metavar="NAME", help="whose it is: letters, digits and @._-")
    add.set_defaults(run=_add_token)
    listing = actions.add_parser("list", help="whose tokens there are, and when each was made")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listing.set_defaults(run=_list_tokens)
    revoke = actions.add_parser("revoke", help="revoke one token, or all of a name")
    revoke.add_argument("which", metavar="NAME|ID")
    revoke.set_defaults(run=_revoke_tokens)


def _add_token(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.server.sign_in.token_file import TokenFile

    made, token = TokenFile(settings.network.tokens_file).add(asked.name, time.time())
    print(token, flush=True)
    print(
        f"rotoscope: this is the token {made.id} of {made.name}. It is shown this once: only its hash is kept. "
        f"Revoke it with rotoscope tokens revoke {made.id}.",
        file=sys.stderr,
    )
    if settings.network.sign_in != "tokens":
        print("rotoscope: tokens are accepted by a server with ROTOSCOPE_SIGN_IN=tokens.", file=sys.stderr)
    return 0


def _list_tokens(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.server.sign_in.token_file import TokenFile

    known = TokenFile(settings.network.tokens_file).read()
    if asked.json:
        shown = [{name: value for name, value in asdict(one).items() if name != "sha256"} for one in known]
        print(json.dumps(shown, indent=2))
        return 0
    rows = [("id", "name", "made", "ends with"), *((o.id, o.name, timestamp(o.made_at), f"…{o.last}") for o in known)]
    print_columns(rows)
    for name, _ in settings.network.tokens:
        print(f"and one of {name} in ROTOSCOPE_TOKENS")
    return 0


def _revoke_tokens(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.server.sign_in.token_file import TokenFile

    for one in TokenFile(settings.network.tokens_file).revoke(asked.which):
        print(f"revoked {one.id} of {one.name}")
    return 0


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as columns, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
