# SPDX-License-Identifier: ZPL-2.1
"""``python -m wsgi_zasync`` is the command ``zasync``."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
