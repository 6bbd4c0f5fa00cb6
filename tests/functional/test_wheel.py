# SPDX-License-Identifier: ZPL-2.1
"""What others get: the wheel alone, away from the repository, and the sources to build from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: What the build backend is given; a copy, so that it leaves nothing in the repository.
BUILT_FROM = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.rst", "LICENSE.txt", "paste.ini"]

#: What the sources that are published are made of, as well.
PUBLISHED = ["CHANGELOG.rst", "Makefile", "cosmic-ray.toml"]
PUBLISHED_DIRECTORIES = [".ci", "benchmarks", "changelog.d", "docs", "scripts", "tests"]

#: Seconds that a command may take.
PATIENCE = 120


def copied(target, files, directories):
    pytest.importorskip("setuptools", minversion="77")
    for name in files:
        shutil.copy(ROOT / name, target)
    for name in directories:
        left_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, ignore=left_out)
    return target


def files(directory):
    found = (path for path in directory.rglob("*") if path.is_file())
    return {p.relative_to(directory) for p in found if "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("source"), BUILT_FROM, ["wsgi_zasync", "demo_app"])


@pytest.fixture(scope="module")
def site(source, tmp_path_factory):
    """A directory with what the wheel installs."""
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(wheels)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def test_the_wheel_has_every_file_of_the_package_and_of_the_demo(site):
    package = {path for path in files(site / "wsgi_zasync") if path.parts[0] != "demo_files"}

    assert package == files(ROOT / "wsgi_zasync")
    assert Path("py.typed") in package
    assert files(site / "wsgi_zasync/demo_files/demo_app") == files(ROOT / "demo_app")
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"wsgi_zasync"}


def test_the_published_sources_have_every_file_of_the_repository(tmp_path):
    # Tests and documentation among them: whoever packages this for a distribution runs them.
    directories = ["wsgi_zasync", "demo_app", *PUBLISHED_DIRECTORIES]
    (tmp_path / "copy").mkdir()
    copy = copied(tmp_path / "copy", [*BUILT_FROM, *PUBLISHED], directories)
    wanted = files(copy)

    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr

    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        members = {Path(*Path(m.name).parts[1:]) for m in sources if m.isfile()}
    assert wanted - members == set()


@pytest.mark.slow
def test_the_demo_of_an_installed_package_serves_its_samples(site, tmp_path):
    # As a console script: without the current directory on Python's path.
    command = [sys.executable, "-P", "-m", "wsgi_zasync"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    with subprocess.Popen(
        [*command, "demo", "--port", "0", "--processes"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        try:
            lines = iter(demo.stdout.readline, "")
            address = next(filter(None, (re.search(r"http://[\d.:]+/", line) for line in lines)))[0]
            with urllib.request.urlopen(f"{address}samples/heron", timeout=PATIENCE) as answer:
                assert b"The grey heron" in answer.read()
            checked = subprocess.run(
                [*command, "check", "var/three.ini"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        finally:
            demo.terminate()
            rest = demo.stdout.read()

    assert checked.returncode == 0, checked.stderr
    assert "demo_app.plugins:report" in checked.stdout
    assert demo.returncode == 0
    assert "The demo has ended." in rest
