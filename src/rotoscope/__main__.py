"""The `rotoscope` command, also as `python -m rotoscope`. A stdio session is opened before anything else is loaded."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run one command; returns its exit code."""
    # On Windows the standard streams cannot be set aside like this: there the server itself opens the session.
    if sys.argv[1:] == ["serve"] and sys.platform != "win32":
        return _serve()
    from rotoscope.cli.commands import main as command

    return command()


def _serve() -> int:
    import os

    from rotoscope.protocol.fast_start.session import Converse, serve

    def load() -> Converse:
        from rotoscope.cli import fast_start

        return fast_start.load()

    return serve(os.environ, load)


if __name__ == "__main__":
    raise SystemExit(main())
