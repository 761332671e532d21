"""The command line. Every command reads the environment once, here, and passes it down."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope import __version__, signals
from rotoscope.cli import explain, export, keys, people, report, tokens, view, worker
from rotoscope.cli.doctor import command as doctor
from rotoscope.cli.install import parsers as install
from rotoscope.cli.watch import command as watch
from rotoscope.contracts.characters import escape_invisible, visible_text
from rotoscope.errors import InvalidInput, MissingKey, OverBudget, RotoscopeError, UserMistake
from rotoscope.logs import configure_logging
from rotoscope.settings import Settings, read_settings, user_home, working_folder

if TYPE_CHECKING:
    from rotoscope.contracts.results import JobList, JobResult, MediaFile

__all__ = ["build_parser", "run_command"]

_MODEL_TOOLS = ("segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask", "segment_video")
_PLAIN_CODES = frozenset({"invalid_argument", "parse_error", "unknown_tool"})  # the message is all that there is to say
OK, FAILED, BAD_INPUT, NEEDS_REVIEW = 0, 1, 2, 3


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says how it went (0 done, 1 failed, 2 bad input, 3 needs review)."""
    top = build_parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        top.print_help(sys.stderr)
        raise SystemExit(BAD_INPUT)
    asked, rest = top.parse_known_args(arguments)
    if getattr(asked, "run", None) is _serve_sandbox:
        asked.rest = rest
    elif rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    configure_logging()
    former = signals.handle_signals(signals.exit_at_signal)
    try:
        if hasattr(asked, "run_without_settings"):
            return int(asked.run_without_settings(asked))
        settings = read_settings(os.environ)
        configure_logging(settings.network.log_format)
        code: int = asked.run(asked, settings)
    except RotoscopeError as error:
        print(visible_text(f"rotoscope: {error.message} {error.hint}".rstrip()), file=sys.stderr)
        if error.code not in _PLAIN_CODES:
            print(f"rotoscope: what that means, and what to do: rotoscope explain {error.code}", file=sys.stderr)
        return _exit_code_of_error(error)
    except signals.Interrupted as interrupted:
        signals.ignore_late_signals()
        former = {}
        return interrupted.exit_code
    except BrokenPipeError:
        _discard_stdout()
        return OK
    except OSError as error:
        _discard_stdout()
        print(f"rotoscope: {error.strerror or error}.", file=sys.stderr)
        return FAILED
    finally:
        signals.restore_handlers(former)
    return code


def _discard_stdout() -> None:
    """Whoever read our output has gone, or its disk is full; Python would complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = argparse.ArgumentParser(
        prog="rotoscope",
        description="An MCP server for media models: segment, describe, generate and edit.",
        epilog="Begin with rotoscope demo, which needs no key. rotoscope install CLIENT brings it into your assistant; "
        "rotoscope doctor says what is wrong here.",
    )
    top.add_argument("--version", action="version", version=f"rotoscope {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="serve MCP over stdin and stdout, or over HTTP")
    serve.add_argument("--http", metavar="HOST:PORT", help="serve over HTTP, at /mcp; port 0 is any free one")
    serve.add_argument("--no-drive", action="store_true", help="leave the jobs to workers (rotoscope worker)")
    serve.add_argument(
        "-v", "--verbose", action="store_true", help="say on stderr whether the fast start is on, and why"
    )
    serve.set_defaults(run=_serve_mcp)

    call = commands.add_parser("call", help="call one tool and print its result as JSON")
    call.add_argument("tool", metavar="TOOL", help=f"{', '.join(_MODEL_TOOLS)}, or one for jobs")
    call.add_argument("--json", default="{}", metavar="JSON", help="the tool's arguments as a JSON object")
    call.set_defaults(run=_call_tool)

    demo = commands.add_parser(
        "demo", help="use all four tools on a photo and a clip as an assistant would; no key is used, nothing is paid"
    )
    demo.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="where to write the results")
    demo.set_defaults(run=_play_demo)

    export.add_parser(commands)
    install.add_parsers(commands)
    view.add_parser(commands)
    report.add_parser(commands)
    worker.add_parser(commands)
    tokens.add_parser(commands)
    people.add_parser(commands)
    keys.add_parser(commands)
    explain.add_parser(commands)
    doctor.add_parser(commands)
    _add_models(commands.add_parser("models", help="list the models, add one, or check a manifest of yours"))
    _add_jobs(
        commands.add_parser("jobs", help="list, show, watch, cancel, drive and resolve jobs, and see what they cost")
    )

    # Its options are the sandbox's own; they are read when it runs, so that no other command loads it.
    sandbox = commands.add_parser(
        "sandbox", help="serve the sandbox over HTTP on 127.0.0.1, or bring its weights", add_help=False
    )
    sandbox.set_defaults(run=_serve_sandbox)
    return top


def _add_models(models: argparse.ArgumentParser) -> None:
    models.set_defaults(run=_print_models, json=False)
    actions = models.add_subparsers(metavar="ACTION")
    listing = actions.add_parser(
        "list", help="every model: its tool, providers, price, time, and whether its key is set"
    )
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check = actions.add_parser(
        "check", help="plan every call that a manifest claims, and print the exact request of its example"
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check_manifest)
    add = actions.add_parser("add", help="make the manifest of a model from the schema that its provider publishes")
    add.add_argument("model", metavar="MODEL", help="fal:ID, replicate:OWNER/NAME or replicate:OWNER/NAME:VERSION")
    add.add_argument("--tool", choices=_MODEL_TOOLS, metavar="TOOL", help="the tool that it is for")
    add.add_argument("--from", type=Path, dest="schema", metavar="FILE", help="read the schema from this JSON file")
    add.add_argument("--print", action="store_true", dest="prints_only", help="print the manifest and write nothing")
    add.add_argument("--force", action="store_true", help="replace the file that is there")
    add.set_defaults(run=_add_model)
    prices = actions.add_parser("prices", help="every route's price beside the one that its provider publishes")
    prices.add_argument("--refresh", action="store_true", help="ask the providers now, not once a day")
    prices.add_argument("--json", action="store_true", help="print JSON instead of a table")
    prices.set_defaults(run=_print_prices)


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    actions = jobs.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the newest jobs")
    listing.add_argument("--status", metavar="STATUS", help="only jobs in this state")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="1-100")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listing.set_defaults(run=_print_job_list)
    for name, run, text in (
        ("show", _show_job, "one job, as JSON, with the end of the model's log"),
        ("cancel", _cancel_job, "cancel a job, at the provider too"),
    ):
        one = actions.add_parser(name, help=text)
        one.add_argument("job_id", metavar="JOB")
        one.set_defaults(run=run)
    watch.add_parser(actions)
    _add_engine_commands(actions)


def _add_engine_commands(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    drive = actions.add_parser("drive", help="run all open jobs to their end, without a client")
    drive.set_defaults(run=_drive_jobs)
    resume = actions.add_parser("resume", help="take up a job that was paid for and ended without its result")
    resume.add_argument("job_id", metavar="JOB")
    resume.set_defaults(run=_resume_job)
    resolve = actions.add_parser("resolve", help="say what became of a job that needs review")
    resolve.add_argument("job_id", metavar="JOB")
    found = resolve.add_mutually_exclusive_group(required=True)
    found.add_argument("--charged", metavar="PREDICTION_ID", help="it ran as this prediction: collect its result")
    found.add_argument("--not-charged", action="store_true", help="it never ran: free its money")
    resolve.add_argument("--force", action="store_true", help="take that prediction although it looks like another")
    resolve.set_defaults(run=_resolve_job)
    spend = actions.add_parser(
        "spend", help="what was estimated and charged and may still be charged, by day, principal and model"
    )
    spend.add_argument("--days", type=int, default=30, metavar="N", help="how many days back (default 30)")
    spend.add_argument("--by", choices=["day", "model", "principal"], help="add the rows up by one of these")
    spend.add_argument(
        "--refresh", action="store_true", help="first ask the providers what ended runs of unknown charge were charged"
    )
    form = spend.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print JSON instead of a table")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print CSV, for a spreadsheet")
    spend.set_defaults(run=_print_spend)
    sweep = actions.add_parser("sweep", help="remove old finished jobs and their files now")
    sweep.set_defaults(run=_sweep_jobs)


def _serve_mcp(asked: argparse.Namespace, settings: Settings) -> int:
    if asked.http is not None:
        from rotoscope.cli.serve_http import serve_http

        return serve_http(settings, asked.http, drives=not asked.no_drive)
    if asked.no_drive:
        raise InvalidInput("--no-drive is for a server over HTTP.", hint="Add --http HOST:PORT, or leave it out.")
    from rotoscope.composition import build_stdio_server
    from rotoscope.protocol.stdio import serve_stdio

    if asked.verbose:
        print("rotoscope: fast start is off: this system cannot hand a session over", file=sys.stderr)
    signals.run_until_signal(serve_stdio, build_stdio_server(settings, working_folder(), user_home()))
    return OK


def _call_tool(asked: argparse.Namespace, settings: Settings) -> int:
    try:
        result = _perform_tool(settings, asked.tool, _parse_json_object(asked.json))
    except RotoscopeError as error:
        problem = {"code": error.code, "message": error.message, "hint": error.hint}
        failure = {"status": "failed", "tool": asked.tool, "error": problem}
        print(escape_invisible(json.dumps(failure, ensure_ascii=False, indent=2)))
        raise
    print(escape_invisible(result.model_dump_json(indent=2)), flush=True)
    return _exit_code_of_result(result)


def _show_job(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import show_job
    from rotoscope.contracts.arguments import GetJob, parse_arguments

    job = signals.run_until_signal(show_job, settings, parse_arguments(GetJob, {"job_id": asked.job_id}))
    print(escape_invisible(job.model_dump_json(indent=2)))
    return OK


def _cancel_job(asked: argparse.Namespace, settings: Settings) -> int:
    result = _perform_tool(settings, "cancel_job", {"job_id": asked.job_id}, marks_delivered=False)
    print(escape_invisible(result.model_dump_json(indent=2)))
    return OK


def _print_job_list(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import print_job_table

    given = {"limit": asked.limit} | ({"status": asked.status} if asked.status else {})
    result = _perform_tool(settings, "list_jobs", given)
    if asked.json:
        print(escape_invisible(result.model_dump_json(indent=2)))
    else:
        print_job_table(result)
    return OK


def _drive_jobs(_: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import drive_all

    states = signals.run_until_signal(drive_all, settings)
    if "needs_review" in states:
        return NEEDS_REVIEW
    return FAILED if states & {"failed", "cancelled"} else OK


def _resume_job(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import resume_to_end

    result = signals.run_until_signal(resume_to_end, settings, asked.job_id)
    print(escape_invisible(result.model_dump_json(indent=2)))
    return _exit_code_of_result(result)


def _resolve_job(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import resolve_review

    result = signals.run_until_signal(partial(resolve_review, force=asked.force), settings, asked.job_id, asked.charged)
    print(escape_invisible(result.model_dump_json(indent=2)))
    return OK


def _print_spend(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import SpendingView, print_spending

    view = SpendingView(asked.days, asked.form or "table", asked.by, asked.refresh)
    signals.run_until_signal(print_spending, settings, view)
    return OK


def _sweep_jobs(_: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import sweep_old_jobs

    swept = signals.run_until_signal(sweep_old_jobs, settings)
    print(f"removed {swept.jobs} jobs and {swept.files} files")
    return OK


def _perform_tool(
    settings: Settings, tool: str, given: dict[str, object], *, marks_delivered: bool = True
) -> "JobResult | JobList | MediaFile":
    from functools import partial

    from rotoscope.cli.output import perform_to_end
    from rotoscope.contracts.arguments import parse_arguments
    from rotoscope.contracts.tools import TOOLS

    if tool not in TOOLS:
        raise InvalidInput(f"There is no tool {tool[:80]!r}.", hint=f"Tools: {', '.join(TOOLS)}.", code="unknown_tool")
    arguments = parse_arguments(TOOLS[tool].arguments, given)
    return signals.run_until_signal(partial(perform_to_end, settings, tool, arguments, marks_delivered=marks_delivered))


def _parse_json_object(text: str) -> dict[str, object]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"--json is not JSON: {error}.", hint='Write --json \'{"image": "photo.jpg"}\'.', code="parse_error"
        ) from None
    if not isinstance(parsed, dict):
        raise InvalidInput("--json must be a JSON object.", hint='Write --json \'{"image": "photo.jpg"}\'.')
    return parsed


def _play_demo(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.demo import run_demo
    from rotoscope.sandbox_process import ensure_weights

    ensure_weights(settings)
    code = signals.run_until_signal(run_demo, asked.out, settings.sandbox_weights)
    sys.stdout.flush()
    return code


def _print_models(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import print_model_table
    from rotoscope.composition import add_kept_keys, load_user_catalog
    from rotoscope.models.access import resolve_access

    catalog = load_user_catalog(settings)
    access = resolve_access(add_kept_keys(settings, catalog), catalog.providers)
    print_model_table(catalog, access, as_json=asked.json)
    return OK


def _print_prices(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import print_prices

    show = partial(print_prices, refresh=asked.refresh, as_json=asked.json)
    return OK if signals.run_until_signal(show, settings) else FAILED


def _check_manifest(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.output import print_example
    from rotoscope.composition import add_kept_keys, load_user_catalog
    from rotoscope.models.access import resolve_access
    from rotoscope.models.catalog import read_manifest
    from rotoscope.models.manifest_check import check_manifest

    catalog = load_user_catalog(settings)
    manifest = read_manifest(asked.file, catalog.providers)
    report = check_manifest(manifest, catalog.providers)
    if report.problems:
        for problem in report.problems:
            print(visible_text(f"rotoscope: {asked.file.name}: {problem}"), file=sys.stderr)
        return BAD_INPUT
    # The request as the provider would get it, whether or not the sandbox stands in for it now.
    kept = add_kept_keys(replace(settings, sandbox="never"), catalog)
    print_example(manifest, report, catalog, resolve_access(kept, catalog.providers))
    return OK


def _add_model(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.cli.models_add import AddRequest, add_model

    add_model(AddRequest(asked.model, asked.tool, asked.schema, asked.prints_only, asked.force), settings)
    return OK


def _serve_sandbox(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.composition import load_user_catalog
    from rotoscope.sandbox_process import run_sandbox_command

    return run_sandbox_command(asked.rest, settings, load_user_catalog(settings))


def _exit_code_of_error(error: RotoscopeError) -> int:
    return BAD_INPUT if isinstance(error, UserMistake | MissingKey | OverBudget) else FAILED


def _exit_code_of_result(result: "JobResult | JobList | MediaFile") -> int:
    status = getattr(result, "status", "succeeded")
    return {"failed": FAILED, "cancelled": FAILED, "needs_review": NEEDS_REVIEW}.get(status, OK)
