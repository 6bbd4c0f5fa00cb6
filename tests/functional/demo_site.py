# SPDX-License-Identifier: ZPL-2.1
"""The demo as its users meet it: a real process, and a browser without JavaScript."""

from __future__ import annotations

import html
import http.client
import re
import signal
import subprocess
import sys
import time
from http.cookies import SimpleCookie
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlencode

from tests.http_answer import Answer

ROOT = Path(__file__).resolve().parents[2]

#: Seconds after which something that should have happened long ago is a failure.
PATIENCE = 30.0


class Visitor:
    """Somebody with cookies, who clicks and does not run scripts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> Answer:
        return self._send("GET", path, headers)

    def send_form(self, path: str, **fields: str) -> Answer:
        token = re.search(r'name="token" value="([0-9a-f]+)"', self.get("/").text)[1]
        return self.post(path, token=token, **fields)

    def post(self, path: str, **fields: str) -> Answer:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", path, kind, urlencode(fields))

    def _send(self, method: str, path: str, headers: dict, body: str | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, headers | ({"Cookie": cookie} if cookie else {}))
            response = connection.getresponse()
            answer = Answer(response)
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return answer

    def log_in(self, user: str) -> Visitor:
        answer = self.send_form("/login", user=user)
        assert answer.status == 303
        return self

    def calls(self) -> set[str]:
        """The addresses of all calls."""
        calls = self.get("/_zasync/calls?limit=200").json["calls"]
        return {call["links"]["self"] for call in calls}

    def open_calls(self) -> list[str]:
        """The addresses of the calls that the page shows under way."""
        return re.findall(r'data-call="([^"]+)"', self.get("/").text)

    def ask(self, path: str, **fields: str) -> str:
        """Send a form that puts a call; returns the address of that call, ended or not."""
        before = self.calls()
        answer = self.send_form(path, **fields)
        assert answer.status == 303, answer.text
        (link,) = self.calls() - before
        return link

    def ended(self, link: str) -> dict:
        """The call when it has ended: by ?wait=, as the page's script does it."""
        until = time.monotonic() + PATIENCE
        while True:
            answer = self.get(f"{link}?wait=15")
            if answer.json["finished"]:
                return answer.json
            assert time.monotonic() < until, f"the call has not ended: {answer.json}"
            # Where others wait already, who asks is told at once to come again.
            Event().wait(float(answer.headers["Retry-After"]))

    def running(self, link: str) -> None:
        """Return when a worker is at the call."""
        while (call := self.get(f"{link}?wait=1").json)["state"] != "running":
            assert not call["finished"], f"the call ended before it was seen to run: {call}"

    def clear(self) -> Visitor:
        """End all calls and take everything off the shelf, whoever left it there."""
        for link in self.open_calls():
            self.send_form(f"/calls/{link.rpartition('/')[2]}/cancel")
            self.ended(link)
        for url in re.findall(r'name="url" value="([^"]*)" />', self.get("/").text):
            self.send_form("/links/remove", url=html.unescape(url))
        return self


class DemoProcess:
    """``zasync demo`` in a process of its own, on a free port."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        command = [sys.executable, "-m", "wsgi_zasync", "demo", "--port", "0", "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.output: list[str] = []
        self.port = self._port()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _port(self) -> int:
        for line in self.process.stdout:
            self.output.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                return int(found[1])
        raise AssertionError(f"the demo did not begin: {''.join(self.output)}")

    def _read(self) -> None:
        for line in self.process.stdout:
            self.output.append(line)
            # Shown with a test that fails meanwhile.
            print(line, end="")

    @property
    def config(self) -> Path:
        return next(self.data.glob("*.ini"))

    def sample(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/samples/{name}"

    def visitor(self, user: str) -> Visitor:
        return Visitor(self.port).log_in(user)

    def clear(self) -> None:
        """Leave nothing of earlier tests: no call under way, nothing on a shelf."""
        for user in ("ann", "bob"):
            self.visitor(user).clear()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join()
        self.process.stdout.close()
        return code

    def __enter__(self) -> DemoProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            # Asked first: one that is killed leaves its own processes behind.
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join()
        self.process.stdout.close()
