"""The command line. Every command reads the environment once, here, and passes it down."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope import __version__, signals
from rotoscope.contracts.characters import as_seen, escaped
from rotoscope.errors import InvalidInput, MissingKey, OverBudget, RotoscopeError, UserMistake
from rotoscope.settings import Settings, read_settings, start_folder, user_home

if TYPE_CHECKING:
    from rotoscope.contracts.results import JobList, JobResult, MediaFile

__all__ = ["main", "parser"]

OK, FAILED, BAD_INPUT, NEEDS_REVIEW = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says how it went (0 done, 1 failed, 2 bad input, 3 needs review)."""
    top = parser()
    asked, rest = top.parse_known_args(arguments)
    if asked.run is _sandbox:
        asked.rest = rest
    elif rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="rotoscope: %(levelname)s: %(message)s")
    former = signals.handle(signals.leave_at)
    try:
        code: int = asked.run(asked, read_settings(os.environ))
    except RotoscopeError as error:
        print(as_seen(f"rotoscope: {error.message} {error.hint}".rstrip()), file=sys.stderr)
        return _code_of(error)
    except signals.Interrupted as interrupted:
        signals.ignore()
        former = {}
        return interrupted.code
    except BrokenPipeError:
        _forget_stdout()
        return OK
    except OSError as error:
        _forget_stdout()
        print(f"rotoscope: {error.strerror or error}.", file=sys.stderr)
        return FAILED
    finally:
        signals.restore(former)
    return code


def _forget_stdout() -> None:
    """Whoever read our output has gone, or its disk is full; Python would complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = argparse.ArgumentParser(
        prog="rotoscope", description="An MCP server for media models: segment, describe, generate and edit."
    )
    top.add_argument("--version", action="version", version=f"rotoscope {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="serve MCP over stdin and stdout")
    serve.set_defaults(run=_serve)

    call = commands.add_parser("call", help="call one tool and print its result as JSON")
    call.add_argument("tool", metavar="TOOL", help="the tool's name")
    call.add_argument("--json", default="{}", metavar="JSON", help="the tool's arguments as a JSON object")
    call.set_defaults(run=_call)

    demo = commands.add_parser("demo", help="segment and describe a photo as an MCP client would")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="where to write the results")
    demo.set_defaults(run=_demo)

    _add_models(commands.add_parser("models", help="list the models, or check a manifest of yours"))
    _add_jobs(commands.add_parser("jobs", help="list, show, cancel, drive and resolve jobs, and see what they cost"))

    # Its options are the sandbox's own; they are read when it runs, so that no other command loads it.
    sandbox = commands.add_parser("sandbox", help="serve the sandbox over HTTP on 127.0.0.1", add_help=False)
    sandbox.set_defaults(run=_sandbox)
    return top


def _add_models(models: argparse.ArgumentParser) -> None:
    models.set_defaults(run=_models)
    actions = models.add_subparsers(metavar="ACTION")
    check = actions.add_parser("check", help="validate a manifest and print the exact request of its example")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check)


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    actions = jobs.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the newest jobs")
    listing.add_argument("--status", metavar="STATUS", help="only jobs in this state")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="1-100")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listing.set_defaults(run=_list_jobs)
    for name, tool, text in (
        ("show", "get_job", "one job, as JSON"),
        ("cancel", "cancel_job", "cancel a job, at the provider too"),
    ):
        one = actions.add_parser(name, help=text)
        one.add_argument("job_id", metavar="JOB")
        one.set_defaults(run=_one_job, tool=tool)
    _add_engine(actions)


def _add_engine(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    drive = actions.add_parser("drive", help="run all open jobs to their end, without a client")
    drive.set_defaults(run=_drive)
    resume = actions.add_parser("resume", help="take up a job that was paid for and ended without its result")
    resume.add_argument("job_id", metavar="JOB")
    resume.set_defaults(run=_resume)
    resolve = actions.add_parser("resolve", help="say what became of a job that needs review")
    resolve.add_argument("job_id", metavar="JOB")
    found = resolve.add_mutually_exclusive_group(required=True)
    found.add_argument("--charged", metavar="PREDICTION_ID", help="it ran as this prediction: collect its result")
    found.add_argument("--not-charged", action="store_true", help="it never ran: free its money")
    resolve.add_argument("--force", action="store_true", help="take that prediction although it looks like another")
    resolve.set_defaults(run=_resolve)
    spend = actions.add_parser("spend", help="what was spent and is held, by day and model")
    spend.add_argument("--days", type=int, default=30, metavar="N", help="how many days back (default 30)")
    spend.add_argument("--json", action="store_true", help="print JSON instead of a table")
    spend.set_defaults(run=_spend)
    sweep = actions.add_parser("sweep", help="remove old finished jobs and their files now")
    sweep.set_defaults(run=_sweep)


def _serve(_: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.compose import stdio_server
    from rotoscope.server.stdio import serve_stdio

    signals.run(serve_stdio, stdio_server(settings, start_folder(), user_home()))
    return OK


def _call(asked: argparse.Namespace, settings: Settings) -> int:
    try:
        result = _performed(settings, asked.tool, _json_object(asked.json))
    except RotoscopeError as error:
        problem = {"code": error.code, "message": error.message, "hint": error.hint}
        told = {"status": "failed", "tool": asked.tool, "error": problem}
        print(escaped(json.dumps(told, ensure_ascii=False, indent=2)))
        raise
    print(escaped(result.model_dump_json(indent=2)), flush=True)
    return _code_of_result(result)


def _one_job(asked: argparse.Namespace, settings: Settings) -> int:
    result = _performed(settings, asked.tool, {"job_id": asked.job_id}, tells=False)
    print(escaped(result.model_dump_json(indent=2)))
    return OK


def _list_jobs(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.terminal import job_table

    given = {"limit": asked.limit} | ({"status": asked.status} if asked.status else {})
    result = _performed(settings, "list_jobs", given)
    if asked.json:
        print(escaped(result.model_dump_json(indent=2)))
    else:
        job_table(result)
    return OK


def _drive(_: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.terminal import drive_all

    states = signals.run(drive_all, settings)
    if "needs_review" in states:
        return NEEDS_REVIEW
    return FAILED if states & {"failed", "cancelled"} else OK


def _resume(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.terminal import resume

    result = signals.run(resume, settings, asked.job_id)
    print(escaped(result.model_dump_json(indent=2)))
    return _code_of_result(result)


def _resolve(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.terminal import resolve

    result = signals.run(partial(resolve, force=asked.force), settings, asked.job_id, asked.charged)
    print(escaped(result.model_dump_json(indent=2)))
    return OK


def _spend(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.terminal import print_spending

    signals.run(print_spending, settings, asked.days, asked.json)
    return OK


def _sweep(_: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.terminal import sweep

    swept = signals.run(sweep, settings)
    print(f"removed {swept.jobs} jobs and {swept.files} files")
    return OK


def _performed(
    settings: Settings, tool: str, given: dict[str, object], *, tells: bool = True
) -> "JobResult | JobList | MediaFile":
    from functools import partial

    from rotoscope.contracts.arguments import parse_arguments
    from rotoscope.contracts.tools import TOOLS
    from rotoscope.terminal import perform

    if tool not in TOOLS:
        raise InvalidInput(f"There is no tool {tool[:80]!r}.", hint=f"Tools: {', '.join(TOOLS)}.", code="unknown_tool")
    arguments = parse_arguments(TOOLS[tool].arguments, given)
    return signals.run(partial(perform, settings, tool, arguments, tells=tells))


def _json_object(text: str) -> dict[str, object]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"--json is not JSON: {error}.", hint='Write --json \'{"image": "photo.jpg"}\'.', code="parse_error"
        ) from None
    if not isinstance(parsed, dict):
        raise InvalidInput("--json must be a JSON object.", hint='Write --json \'{"image": "photo.jpg"}\'.')
    return parsed


def _demo(asked: argparse.Namespace, _: Settings) -> int:
    from rotoscope.demo import run_demo

    code = signals.run(run_demo, asked.out)
    sys.stdout.flush()
    return code


def _models(_: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.compose import catalog_of
    from rotoscope.models.access import access_of
    from rotoscope.terminal import model_table

    catalog = catalog_of(settings)
    model_table(catalog, access_of(settings, catalog.providers))
    return OK


def _check(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.compose import catalog_of
    from rotoscope.models.access import access_of
    from rotoscope.models.catalog import read_manifest
    from rotoscope.terminal import print_example

    catalog = catalog_of(settings)
    manifest = read_manifest(asked.file, catalog.providers)
    # The request as the provider would get it, whether or not the sandbox stands in for it now.
    print_example(manifest, catalog, access_of(replace(settings, sandbox="never"), catalog.providers))
    return OK


def _sandbox(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.compose import catalog_of
    from rotoscope.sandbox_process import run_sandbox_command

    return run_sandbox_command(asked.rest, settings, catalog_of(settings))


def _code_of(error: RotoscopeError) -> int:
    return BAD_INPUT if isinstance(error, UserMistake | MissingKey | OverBudget) else FAILED


def _code_of_result(result: "JobResult | JobList | MediaFile") -> int:
    status = getattr(result, "status", "succeeded")
    return {"failed": FAILED, "cancelled": FAILED, "needs_review": NEEDS_REVIEW}.get(status, OK)
