"""The `rotoscope` command, also as `python -m rotoscope`. A stdio session is opened before anything else is loaded."""

import sys

__all__ = ["main"]

_FAST_START = (["serve"], ["serve", "--verbose"], ["serve", "-v"])


def main() -> int:
    """Run one command; returns its exit code."""
    # On Windows the standard streams cannot be set aside like this: there the server itself opens the session.
    if sys.argv[1:] in _FAST_START and sys.platform != "win32":
        return _serve_stdio(is_verbose=len(sys.argv) > len(["rotoscope", "serve"]))
    from rotoscope.cli.commands import run_command

    return run_command()


def _serve_stdio(*, is_verbose: bool) -> int:
    import os

    from rotoscope.cli.stored_replies import read_stored_replies
    from rotoscope.protocol.fast_start.session import ServeSession, serve_process

    replies, obstacle = read_stored_replies(os.environ)
    if is_verbose:
        state = f"off: {obstacle}" if obstacle else "on"
        sys.stderr.write(f"rotoscope: fast start is {state}\n")

    def load() -> ServeSession:
        from rotoscope.cli import fast_start

        return fast_start.load_server()

    return serve_process(replies, load)


if __name__ == "__main__":
    raise SystemExit(main())
