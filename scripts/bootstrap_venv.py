# SPDX-License-Identifier: ZPL-2.1
"""Makes a virtual environment with pip in it, on machines that lack ensurepip too.

Debian and Ubuntu split ensurepip off into a package of its own, so that
``python3 -m venv`` fails on a fresh machine. In order, the first that works:

1. ensurepip, as everywhere else;
2. the pip of the system's Python, told to install into the new environment;
3. pip's wheel, fetched from pip's own package index over https, its SHA-256
   compared with the one that the index states, and run from the file;
4. ``apt-get install python3-venv``, only where that asks for no password.

``python3 scripts/bootstrap_venv.py DIRECTORY``; exit code 2 says that nothing
worked, and prints what to do.
"""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

#: What pip itself uses where nothing else is configured.
DEFAULT_INDEX = "https://pypi.org/simple"

#: Seconds for one download; a machine without a network must not wait for long.
DOWNLOAD_SECONDS = 60

#: Seconds for apt-get, which may have to wait for another one's lock.
APT_SECONDS = 240


class CannotBootstrap(Exception):
    """This way does not work here; the text says why."""


def environment_python(directory: Path) -> Path:
    """The interpreter inside the environment."""
    return directory / "bin" / "python"


def has_pip(directory: Path) -> bool:
    """Whether the environment exists and its pip runs."""
    python = environment_python(directory)
    return python.exists() and succeeds([str(python), "-m", "pip", "--version"])


def succeeds(command: list[str]) -> bool:
    """Whether a command ends with 0; its output is dropped."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(command: list[str], timeout: float | None = None) -> None:
    """Run a command; what it printed becomes the reason if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBootstrap(str(error)) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CannotBootstrap(f"{' '.join(command[:4])} …: {' '.join(last)}")


def with_ensurepip(directory: Path) -> None:
    """The usual way."""
    if importlib.util.find_spec("ensurepip") is None:
        raise CannotBootstrap("this Python comes without ensurepip")
    run([sys.executable, "-m", "venv", "--clear", str(directory)])


def with_system_pip(directory: Path) -> None:
    """A pip beside this Python can install another one elsewhere (from pip 22.3 on)."""
    if not succeeds([sys.executable, "-m", "pip", "--version"]):
        raise CannotBootstrap("this Python comes without pip")
    venv.create(directory, clear=True, with_pip=False)
    run([sys.executable, "-m", "pip", "--python", str(directory), "install", "-q", "pip"])


def with_downloaded_wheel(directory: Path) -> None:
    """Fetch pip's wheel from the index and let it install itself."""
    url, digest = newest_pip_wheel(index_url())
    name = urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1]
    content = fetch(url)
    if hashlib.sha256(content).hexdigest() != digest:
        raise CannotBootstrap(f"{name} is not the file that the index describes")
    venv.create(directory, clear=True, with_pip=False)
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder, name)
        wheel.write_bytes(content)
        python = str(environment_python(directory))
        run([python, f"{wheel}/pip", "install", "-q", "--no-deps", "--no-index", str(wheel)])


def with_apt(directory: Path) -> None:
    """Install Debian's python3-venv, where it can be had without asking anybody."""
    if shutil.which("apt-get") is None:
        raise CannotBootstrap("there is no apt-get")
    asking = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
    if os.geteuid() != 0:
        if shutil.which("sudo") is None or not succeeds(["sudo", "-n", "true"]):
            raise CannotBootstrap("apt-get needs root here")
        asking = ["sudo", "-n", *asking]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    run([*asking, "update"], APT_SECONDS)
    run([*asking, "install", version], APT_SECONDS)
    # Another process, since this one has looked for ensurepip already.
    run([sys.executable, "-m", "venv", "--clear", str(directory)])


def index_url() -> str:
    """The package index that pip would use: environment, its files, its default."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    parser = configparser.RawConfigParser()
    home = Path.home()
    config = os.environ.get("PIP_CONFIG_FILE", "")
    parser.read(
        ["/etc/pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf", config],
        encoding="utf-8",
    )
    return parser.get("global", "index-url", fallback=DEFAULT_INDEX)


class Links(HTMLParser):
    """The addresses on a page of a package index, with the Python that each asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the anchors that were not withdrawn."""
        names = dict(attrs)
        if tag == "a" and names.get("href") and "data-yanked" not in names:
            self.found.append((names["href"] or "", names.get("data-requires-python") or ""))


def newest_pip_wheel(index: str) -> tuple[str, str]:
    """Address and SHA-256 of the newest released pip that runs on this Python."""
    page = f"{index.rstrip('/')}/pip/"
    links = Links()
    links.feed(fetch(page).decode("utf-8", "replace"))
    wheels = sorted(candidates(page, links.found))
    if not wheels:
        raise CannotBootstrap(f"{without_password(page)} lists no wheel of pip with a SHA-256")
    _, url, digest = wheels[-1]
    return url, digest


def candidates(page: str, found: list[tuple[str, str]]) -> Iterator[tuple[list[int], str, str]]:
    """The releases among the links: version, absolute address, digest."""
    for href, requires in found:
        url, _, fragment = urllib.parse.urljoin(page, href).partition("#")
        name = re.search(r"/pip-([0-9.]+)-py3-none-any\.whl$|/pip-([0-9.]+)-py2\.py3", url)
        digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        if not (name and digest and url.endswith(".whl")):
            continue
        lowest = re.search(r">=\s*([0-9]+)\.([0-9]+)", requires)
        if lowest and (int(lowest[1]), int(lowest[2])) > sys.version_info[:2]:
            continue
        version = [int(part) for part in (name[1] or name[2]).split(".") if part]
        yield version, url, digest[1]


def fetch(url: str) -> bytes:
    """The bytes at an https address (or a file's)."""
    if urllib.parse.urlsplit(url).scheme not in ("https", "file"):
        raise CannotBootstrap(f"{without_password(url)} is not https")
    certificates = os.environ.get("PIP_CERT") or None
    request = urllib.request.Request(url, headers={"Accept": "text/html, */*;q=0.5"})
    try:
        context = ssl.create_default_context(cafile=certificates)
        with urllib.request.urlopen(request, timeout=DOWNLOAD_SECONDS, context=context) as answer:
            content: bytes = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise CannotBootstrap(f"{without_password(url)}: {error}") from error
    return content


def without_password(url: str) -> str:
    """An address that may be shown."""
    return re.sub(r"//[^/@]*@", "//", url)


#: In the order in which they are tried.
WAYS: tuple[Callable[[Path], None], ...] = (
    with_ensurepip,
    with_system_pip,
    with_downloaded_wheel,
    with_apt,
)


def main(arguments: list[str]) -> int:
    """Make the environment; 0 done, 2 nothing worked."""
    if sys.version_info < (3, 11):  # noqa: UP036 - any Python may have been named
        print(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    reasons = []
    for way in WAYS:
        if has_pip(directory):
            break
        try:
            way(directory)
        except CannotBootstrap as error:
            reasons.append(f"  {way.__name__.replace('_', ' ')}: {error}")
    if has_pip(directory):
        return 0
    print(f"No virtual environment with pip could be made in {directory}:", file=sys.stderr)
    print("\n".join(reasons), file=sys.stderr)
    print(
        "Install it by hand and try again: as root, `apt-get install python3-venv`; "
        "or name a Python that has it: make PYTHON=/path/to/python3",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
