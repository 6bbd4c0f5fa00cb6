# SPDX-License-Identifier: ZPL-2.1
"""The processes of one site, the pages that it reads, and the clients that its users have."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

#: Seconds after which something that should have happened long ago is a failure.
PATIENCE = 40.0

FILE = """\
[DEFAULT]
zodb_uri = zeo://{directory}/zeo.sock
secret = file:{directory}/secret

[app:diaries]
paste.app_factory = diaries:app_factory

[filter:zasync]
use = egg:wsgi_zasync
identity = diaries:identify
worker = none
waiters = 10

[pipeline:main]
pipeline = zasync diaries

[worker:main]
use = egg:wsgi_zasync#worker
max_running = 60

[plugin:http.get]
allow = 127.0.0.1:{port}
"""


class Process:
    """A process whose lines are read; each can be waited for."""

    def __init__(self, name, command, directory):
        self.name = name
        self.lines = []
        self._news = threading.Condition()
        self._ended = False
        path = os.pathsep.join([str(HERE), str(ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def said(self, pattern):
        """The match of the first line like this, waited for."""

        def found():
            return next((m for line in self.lines if (m := re.search(pattern, line))), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, PATIENCE)
            match = found()
        assert match, f"{self.name} has not said {pattern!r}: {''.join(self.lines)}"
        return match

    def stop(self):
        """Ask it to end; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self):
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)
        self._process.stdout.close()


class Pages:
    """A real HTTP server that counts how often each address is asked for."""

    def __init__(self):
        self.asked = Counter()
        lock = threading.Lock()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                with lock:
                    pages.asked[self.path] += 1
                body = f"the page {self.path}".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *message):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        pages = self
        self._server = Server(("127.0.0.1", 0), Answer)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Site:
    """A ZEO server, two web processes, two workers, and the pages that are read."""

    def __init__(self, directory):
        self.directory = directory
        self.pages = Pages()
        self.processes = {}
        self.file = directory / "site.ini"
        self.file.write_text(FILE.format(directory=directory, port=self.pages.port))
        (directory / "secret").write_text("a secret for this test alone, long enough\n")
        (directory / "secret").chmod(0o600)
        self.socket = str(directory / "zeo.sock")

    def start_zeo(self):
        self._start(
            "zeo", ["-m", "ZEO.runzeo", "-a", self.socket, "-f", str(self.directory / "Data.fs")]
        )

    def start_others(self):
        for name in ("web1", "web2"):
            self._start(name, [str(HERE / "serve_diaries.py"), str(self.file)])
        for name in ("worker1", "worker2"):
            self._start(name, ["-m", "wsgi_zasync", "worker", str(self.file), "-n", name])
        self.ports = tuple(
            int(self.processes[name].said(r"listening on (\d+)")[1]) for name in ("web1", "web2")
        )
        for name in ("worker1", "worker2"):
            self.processes[name].said(f"worker {name} is at work")

    def _start(self, name, command):
        self.processes[name] = Process(name, command, self.directory)

    def stop(self):
        """Ask all but ZEO to end; the exit codes."""
        names = ("worker1", "worker2", "web1", "web2")
        return {name: self.processes[name].stop() for name in names}

    def close(self):
        for process in reversed(self.processes.values()):
            process.close()
        self.pages.close()


class Answer:
    """All of an answer but the moment at which it was given."""

    def __init__(self, response):
        self.status = response.status
        self.headers = [(k, v) for k, v in response.getheaders() if k != "Date"]
        self.body = response.read()

    @property
    def whole(self):
        return (self.status, self.headers, self.body)

    @property
    def json(self):
        return json.loads(self.body)


def is_owed(call):
    """Whether the call has not ended, or a callback of it is still to be evaluated."""
    return call["finished"] is None or any(c["state"] == "pending" for c in call["callbacks"])


class Client:
    """One user, with a connection to each web process."""

    def __init__(self, user, authorization, ports):
        self.user = user
        self._headers = {"Authorization": authorization}
        self._connections = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE) for port in ports
        ]

    def ask(self, method, path, web=0):
        connection = self._connections[web]
        connection.request(method, path, headers=self._headers)
        return Answer(connection.getresponse())

    def put(self, pages, trespass, web):
        query = urlencode({"page": pages, "trespass": trespass}, doseq=True)
        answer = self.ask("POST", f"/?{query}", web)
        assert answer.status == 200, answer.body
        return answer.json

    def listed(self, web):
        answer = self.ask("GET", "/_zasync/calls?limit=200", web)
        assert answer.status == 200, answer.body
        return answer.json["calls"]

    def wait_for_all(self, count, web):
        """All calls when they have ended, by long polls, and their callbacks, which may follow."""
        until = time.monotonic() + PATIENCE
        while True:
            calls = self.listed(web)
            open_calls = [call for call in calls if is_owed(call)]
            if len(calls) == count and not open_calls:
                return calls
            assert time.monotonic() < until, f"{len(calls)} calls, still open: {open_calls[:3]}"
            self.ask("GET", f"/_zasync/calls/{open_calls[0]['id']}?wait=20", web)

    def close(self):
        for connection in self._connections:
            connection.close()
