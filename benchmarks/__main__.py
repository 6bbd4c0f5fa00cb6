# SPDX-License-Identifier: ZPL-2.1
"""``python -m benchmarks [NAME ...]``: all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

#: In the order of a call's path.
NAMES = ("request", "put", "conflicts", "latency", "drain", "growth", "expressions", "hostile")


def main(arguments: list[str]) -> int:
    """Run; returns the exit code."""
    for name in arguments:
        if name not in NAMES:
            print(f"there is no benchmark {name!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
            return 2
    for name in arguments or NAMES:
        importlib.import_module(f"{__package__}.{name}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
