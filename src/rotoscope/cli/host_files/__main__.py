"""Write what hosts read. `python -m rotoscope.cli.host_files [--check]`; `make manifests` calls it.

`--release BUNDLE OUT` writes a server.json that offers the packed bundle too, and refuses what no release may have.
"""

import sys

from rotoscope.cli.host_files.writing import write_host_files

if __name__ == "__main__":
    raise SystemExit(write_host_files(sys.argv[1:]))
