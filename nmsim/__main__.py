"""`python -m nmsim` is the `nmsim` command."""

from __future__ import annotations

from nmsim.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
