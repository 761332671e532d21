"""`python -m rotoscope_sandbox`: serves a sandbox over HTTP on 127.0.0.1."""

from rotoscope_sandbox.command import main

raise SystemExit(main())
