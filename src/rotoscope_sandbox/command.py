"""The command that serves a sandbox over HTTP on 127.0.0.1: `python -m rotoscope_sandbox`, and `rotoscope sandbox`.

With `weights` as its first argument it brings the weights of the sandbox's object net instead.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rotoscope_sandbox.certificates import Certificate
    from rotoscope_sandbox.own_models import OwnModel
    from rotoscope_sandbox.weights_download import Progress

__all__ = ["UnusableOption", "run", "run_as_module"]

_MOST_PACE = 10_000.0
_FAULTS_EXAMPLE = 'TOML with [[rules]] and fault = "reset", or JSON: {"rules": [{"fault": "reset"}]}'


class UnusableOption(Exception):
    """An option cannot be used; `hint` is what helps."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def run_as_module() -> int:
    """Run the command with the arguments of this process; returns its exit code."""
    try:
        return run(sys.argv[1:])
    except UnusableOption as problem:
        print(f"rotoscope_sandbox: {problem} {problem.hint}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"rotoscope_sandbox: {problem.strerror or problem}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(
    arguments: Sequence[str],
    *,
    program: str = "python -m rotoscope_sandbox",
    folder: Path | None = None,
    own_models: "Iterable[OwnModel]" = (),
    weights: Path | None = None,
    weights_folder: Path | None = None,
) -> int:
    """Serve until the process is stopped, or bring the weights; returns the exit code.

    Args:
        arguments: the options, as they were typed.
        program: how the command is called in its own help.
        folder: where predictions and files are kept; without one, `--folder` says it.
        own_models: as for `build_sandbox`.
        weights: the file of weights that is used unless `--weights` names another.
        weights_folder: where `weights` brings them; the working directory unless it is given.

    Raises:
        UnusableOption: the rules cannot be read, or no certificate can be made here.
        OSError: the port is taken, or the folder cannot be written.
    """
    if arguments[:1] == ["weights"]:
        return _bring_weights(arguments[1:], f"{program} weights", weights_folder or Path(), weights)
    options = _parser(program, weights, has_folder=folder is not None).parse_args(arguments)
    with ExitStack() as closing:
        place = folder or options.folder or Path(closing.enter_context(TemporaryDirectory(prefix="sandbox-")))
        return _serve(place, options, own_models)


def _serve(folder: Path, options: argparse.Namespace, own_models: "Iterable[OwnModel]") -> int:
    from rotoscope_sandbox import build_sandbox
    from rotoscope_sandbox.faults.definitions import UnknownFault
    from rotoscope_sandbox.serving import listen, serve_sandbox

    try:
        app = build_sandbox(
            folder,
            pace=options.pace,
            public_url=options.public_url,
            faults=options.faults,
            stand_ins=True,
            own_models=own_models,
            weights=options.weights,
        )
    except UnknownFault as problem:
        raise UnusableOption(f"{options.faults}: {problem}", f"Such a file holds {_FAULTS_EXAMPLE}.") from None
    certificate = _certificate(folder / "tls") if options.tls else None
    # The address is printed only once the port is taken.
    with listen(options.port) as listener:
        scheme, port = "https" if certificate else "http", listener.getsockname()[1]
        print(f"The sandbox is at {scheme}://127.0.0.1:{port}; stop it with Ctrl-C.", file=sys.stderr)
        if certificate is not None:
            trust = f"SSL_CERT_FILE={certificate.authority} NODE_EXTRA_CA_CERTS={certificate.authority}"
            print(f"Clients that speak to it need {trust}", file=sys.stderr)
        serve_sandbox(app, listener, certificate)
    return 0


def _certificate(folder: Path) -> "Certificate":
    from rotoscope_sandbox.certificates import NoCertificates, make_certificate

    try:
        return make_certificate(folder, datetime.now(UTC))
    except NoCertificates:
        hint = "Install the package cryptography, or put a proxy of your own in front and name it by --public-url."
        raise UnusableOption("The sandbox cannot make a certificate here.", hint) from None


def _bring_weights(arguments: Sequence[str], program: str, folder: Path, used: Path | None) -> int:
    from rotoscope_sandbox.weights import FILE_NAME
    from rotoscope_sandbox.weights_download import U2NETP, NoWeights, bring_weights, has_weights

    parser = argparse.ArgumentParser(prog=program, description="Bring the weights that make the sandbox's masks good.")
    parser.add_argument(
        "--folder", type=Path, default=folder, metavar="DIR", help="where they go (default %(default)s)"
    )
    target: Path = parser.parse_args(arguments).folder / FILE_NAME
    print(f"The net of the sandbox's masks: {U2NETP.title}; {U2NETP.licence}; {U2NETP.origin}", file=sys.stderr)
    if has_weights(target, U2NETP):
        print(f"They are there already: {target}", file=sys.stderr)
    else:
        try:
            with _progress_bar(FILE_NAME) as show_progress:
                bring_weights(target, show_progress, U2NETP)
        except NoWeights as problem:
            print(f"No weights came ({problem}).", file=sys.stderr)
            print(f"The sandbox works without them, by colours alone; {program} tries again.", file=sys.stderr)
            return 1
        print(f"The weights are in {target}", file=sys.stderr)
    if used is not None and used.absolute() != target.absolute():
        print(f"They are not used: {used} is named instead.", file=sys.stderr)
    return 0


@contextmanager
def _progress_bar(name: str) -> "Iterator[Progress]":
    """A bar on the terminal; where there is none, nothing."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _parser(program: str, weights: Path | None, *, has_folder: bool) -> argparse.ArgumentParser:
    epilog = f"{program} weights brings the weights that make its masks good."
    parser = argparse.ArgumentParser(prog=program, epilog=epilog)
    parser.add_argument(
        "--port", type=_port, default=8765, metavar="N", help="where (default %(default)s); 0: any free"
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help=f"what is to go wrong, as {_FAULTS_EXAMPLE}")
    parser.add_argument("--tls", action="store_true", help="serve https, with a throw-away certificate")
    parser.add_argument("--public-url", metavar="URL", help="what handed-out addresses start with (behind a proxy)")
    parser.add_argument("--pace", type=_pace, default=1.0, metavar="N", help="how much longer runs take (default 1)")
    parser.add_argument("--weights", type=Path, default=weights, metavar="FILE", help="weights of the object net")
    if not has_folder:
        parser.add_argument("--folder", type=Path, metavar="DIR", help="where files are kept (default: until it ends)")
    return parser


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = -1.0
    if not 0 <= pace <= _MOST_PACE:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_MOST_PACE:g}")
    return pace


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) < 2**16:
        raise argparse.ArgumentTypeError("must be a number from 1 to 65535, or 0 for any free one")
    return int(text)
