"""`rotoscope worker`: drives the jobs of a ledger without serving anybody."""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from rotoscope import signals
from rotoscope.cli.collector import tune_garbage_collector
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.composition.driving import Driving
    from rotoscope.store.leases import JobDriver

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    worker = commands.add_parser("worker", help="drive jobs that servers and clients of the same ledger open")
    worker.add_argument("--concurrency", type=int, metavar="N", help="how many jobs are driven at once")
    worker.add_argument(
        "--providers", metavar="NAMES", help="drive the jobs of these providers alone, such as fal,replicate"
    )
    worker.set_defaults(run=_run_worker)


def _run_worker(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.composition.driving import Driving
    from rotoscope.composition.worker import run_worker

    driving = Driving(_read_concurrency(asked.concurrency), _read_providers(asked.providers))

    def on_ready(driver: "JobDriver") -> None:
        tune_garbage_collector()
        _announce(settings, driving, driver)

    signals.run_until_second_signal(partial(run_worker, settings, driving, on_ready))
    print("rotoscope: the worker has ended; jobs that were not over are given back.", file=sys.stderr, flush=True)
    return 0


def _read_concurrency(given: int | None) -> int | None:
    if given is not None and given < 1:
        raise InvalidInput("--concurrency is less than 1.", hint="Say how many jobs are driven at once, 1 or more.")
    return given


def _read_providers(given: str | None) -> frozenset[str] | None:
    if given is None:
        return None
    names = frozenset(one.strip() for one in given.split(",") if one.strip())
    if not names:
        raise InvalidInput("--providers names none.", hint="Write --providers fal,replicate, or leave it out.")
    return names


def _announce(settings: Settings, driving: "Driving", driver: "JobDriver") -> None:
    from rotoscope.composition.driving import describe_ledger

    whose = ", ".join(sorted({key.partition("@")[0] for key in driver.keys})) or "no provider: no key is set"
    most = "" if driving.most_jobs is None else f", {driving.most_jobs} at once"
    print(
        f"rotoscope: driving jobs of {whose}{most}; the ledger is {describe_ledger(settings)}\n"
        "rotoscope: SIGTERM or Ctrl-C ends it, and other processes take its jobs over",
        file=sys.stderr,
        flush=True,
    )
