# SPDX-License-Identifier: ZPL-2.1
"""Where the commands find what is not in the package's modules: the demo, the user's own."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

#: The repository, or an unpacked source distribution.
REPOSITORY = Path(__file__).resolve().parents[2]

#: What an installed package has instead.
INSTALLED = Path(__file__).resolve().parents[1] / "demo_files"


def demo_files() -> Path | None:
    """The directory that has paste.ini and demo_app; None if neither place does."""
    for place in (REPOSITORY, INSTALLED):
        if (place / "paste.ini").is_file() and (place / "demo_app/three.ini").is_file():
            return place
    return None


def find_modules() -> None:
    """Let a file name modules in the current directory, as ``python -m`` does, and the demo's.

    They come last, so that none of them takes the place of one that is installed.
    """
    # A deployment may have replaced the directory that a shell is in: then there is none.
    with suppress(FileNotFoundError):
        here = os.getcwd()
        if not {"", here} & set(sys.path):
            sys.path.append(here)
    if INSTALLED.is_dir() and str(INSTALLED) not in sys.path:
        sys.path.append(str(INSTALLED))
