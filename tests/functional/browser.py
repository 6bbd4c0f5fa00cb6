# SPDX-License-Identifier: ZPL-2.1
"""A real Chromium, driven through its own debugging pipe: no package is needed for that."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Seconds that a command to the browser, or something awaited in a page, may take.
PATIENCE = 30.0

OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
)

#: The browser expects its pipe as descriptors 3 and 4, whatever ours are.
BEGIN = """
import os, sys
ends = [os.dup(int(number)) for number in sys.argv[1:3]]
while min(ends) < 5:
    ends = [os.dup(end) for end in ends]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    """The path of the browser, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one page, and a profile that is thrown away."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # As root the browser refuses to work in its sandbox.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [program, *OPTIONS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, str(to_browser), str(from_browser), *command],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._answers = os.fdopen(self._read, "rb")
        self._number = 0
        self._session: str | None = None
        self._pending = b""
        #: What the page has said besides: exceptions, violations of its policy, dialogs.
        self.complaints: list[str] = []
        self._loads = 0
        self._open_page()

    def _open_page(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    # -- the pipe -----------------------------------------------------------------------------

    def send(self, method: str, **parameters: Any) -> Any:
        """Tell the browser something; returns its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = os.read(self._read, 65536)
            if not part:
                raise AssertionError("the browser has ended")
            self._pending += part
        line, self._pending = self._pending.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, said = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(json.dumps(said["entry"]))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {said['message']}")

    # -- the page -----------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page is there."""
        before = self._loads
        self.send("Page.navigate", url=url)
        self._await_load(before)

    def click(self, selector: str) -> None:
        """Click on what leads to another page, and wait until that is there."""
        before = self._loads
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        self._await_load(before)

    def _await_load(self, before: int) -> None:
        while self._loads == before:
            self._receive()

    def evaluate(self, script: str) -> Any:
        """The value of a script's last expression; promises are waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until the page changes so that a condition holds, told by the page itself."""
        script = f"""new Promise((done, fail) => {{
            const look = () => {{ if ({condition}) {{ watch.disconnect(); done(true); }} }};
            const watch = new MutationObserver(look);
            const all = {{ subtree: true, childList: true, attributes: true, characterData: true }};
            watch.observe(document, all);
            setTimeout(() => fail(new Error("not in time")), {PATIENCE * 1000});
            look();
        }})"""
        self.evaluate(script)

    def screenshot(self, path: Path, width: int = 1000, height: int = 1100) -> None:
        """Save what the page looks like."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(PATIENCE)
        except (AssertionError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._answers.close()
        os.close(self._write)
