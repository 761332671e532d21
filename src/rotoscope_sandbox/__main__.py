"""`python -m rotoscope_sandbox`: serves a sandbox over HTTP on 127.0.0.1."""

from rotoscope_sandbox.command import run_as_module

raise SystemExit(run_as_module())
