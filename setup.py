# SPDX-License-Identifier: ZPL-2.1
"""What pyproject.toml cannot say: the demo goes into the package, for ``zasync demo``."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDemo(build_py):
    """Copies paste.ini and demo_app, which are beside the package here, to below it."""

    def run(self) -> None:
        """Build as always, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "wsgi_zasync", "demo_files")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree("demo_app", target / "demo_app", ignore=shutil.ignore_patterns("*.py[cod]"))
        shutil.rmtree(target / "demo_app" / "__pycache__", ignore_errors=True)
        shutil.copy("paste.ini", target)


setup(cmdclass={"build_py": BuildWithDemo})
