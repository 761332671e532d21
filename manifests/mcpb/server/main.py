"""Starts rotoscope from the bundle; uv has installed it, as pyproject.toml says."""

import sys

from rotoscope.__main__ import main

if __name__ == "__main__":
    sys.argv[1:] = ["serve"]
    raise SystemExit(main())
