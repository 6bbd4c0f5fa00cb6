# SPDX-License-Identifier: ZPL-2.1
"""The demo as its users meet it: a real process, and a browser without JavaScript."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]

#: Seconds after which something that should have happened long ago is a failure.
PATIENCE = 30.0


class Answer:
    """One answer of the server."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict:
        return json.loads(self.body)


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

    def open_calls(self) -> list[str]:
        """The addresses of the calls that the page shows under way."""
        return re.findall(r'data-call="([^"]+)"', self.get("/").text)

    def ended(self, link: str) -> dict:
        """The call when it has ended: by ?wait=, as the page's script does it."""
        for _ in range(int(PATIENCE)):
            call = self.get(f"{link}?wait=15").json
            if call["finished"]:
                return call
        raise AssertionError(f"the call has not ended: {call}")


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
        self.output.extend(self.process.stdout)

    @property
    def config(self) -> Path:
        return next(self.data.glob("*.ini"))

    def sample(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/samples/{name}"

    def visitor(self, user: str) -> Visitor:
        return Visitor(self.port).log_in(user)

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
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()
