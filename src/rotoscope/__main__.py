"""The `rotoscope` command, also as `python -m rotoscope`. A stdio session is opened before anything else is loaded."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run one command; returns its exit code."""
    # On Windows the standard streams cannot be set aside like this: there the server itself opens the session.
    if sys.argv[1:] == ["serve"] and sys.platform != "win32":
        return _serve_fast_start()
    from rotoscope.cli.commands import run_command as command

    return command()


def _serve_fast_start() -> int:
    import os

    from rotoscope.protocol.fast_start.session import ServeSession, serve_process

    def load() -> ServeSession:
        from rotoscope.cli import fast_start

        return fast_start.load_server()

    return serve_process(os.environ, load)


if __name__ == "__main__":
    raise SystemExit(main())
