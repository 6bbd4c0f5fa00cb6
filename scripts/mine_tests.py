# SPDX-License-Identifier: ZPL-2.1
"""Fetches the published tests of other sandboxes, whose strings ours has to withstand.

Wheels carry no tests, so these are source distributions, of pinned versions, as
pip finds them on this machine.  Nothing of them is installed, built into the
environment or run: the Python files of their tests are unpacked and read as text.

``python scripts/mine_tests.py DIRECTORY``; exit code 1 says that pip could not
get them, and prints why.  `tests/expressions/test_mined.py` then skips.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

#: Name and version of what is read.
PINNED = {"RestrictedPython": "9.0", "AccessControl": "7.5", "simpleeval": "1.0.8"}

#: Seconds for all downloads; a machine without a network must not wait for long.
DOWNLOAD_SECONDS = 180


def download(folder: Path) -> str:
    """Let pip fetch the source distributions; what it says if it cannot."""
    wanted = [f"{name}=={version}" for name, version in PINNED.items()]
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq",
        "--retries", "1", "--timeout", "20", "--no-deps", "--dest", str(folder),
        "--no-binary", ",".join(PINNED), *wanted,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {DOWNLOAD_SECONDS} seconds"
    if done.returncode:
        return " ".join((done.stderr or done.stdout).strip().splitlines()[-1:]) or "pip failed"
    return ""


def unpack(archive: Path, target: Path) -> int:
    """Write the Python files of an archive's tests; how many there were."""
    count = 0
    with tarfile.open(archive) as members:
        for member in members:
            path = PurePosixPath(member.name)
            content = members.extractfile(member) if member.isfile() else None
            if content is None or path.suffix != ".py" or ".." in path.parts:
                continue
            if not any("test" in part.lower() for part in path.parts[1:]):
                continue
            # One flat directory: no name in an archive decides where something is written.
            count += 1
            (target / f"{count:03}-{path.name}").write_bytes(content.read())
    return count


def main(arguments: list[str]) -> int:
    """Fill the directory; 0 done, 1 pip could not get them."""
    directory = Path(arguments[0])
    with tempfile.TemporaryDirectory() as folder:
        reason = download(Path(folder))
        if reason:
            print(f"The tests of other sandboxes could not be fetched: {reason}", file=sys.stderr)
            return 1
        shutil.rmtree(directory, ignore_errors=True)
        for name in PINNED:
            # The case of archives' names differs between versions of build tools.
            archives = {path.name.lower(): path for path in Path(folder).iterdir()}
            (archive,) = (archives[known] for known in archives if known.startswith(name.lower()))
            target = directory / name
            target.mkdir(parents=True)
            if not unpack(archive, target):
                print(f"{archive.name} carries no tests", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
