# SPDX-License-Identifier: ZPL-2.1
"""One web process: ``python serve_diaries.py FILE`` serves a PasteDeploy file on a free port."""

from __future__ import annotations

import signal
import sys

from paste.deploy import loadapp
from waitress.server import create_server


def main():
    server = create_server(loadapp(f"config:{sys.argv[1]}"), host="127.0.0.1", port=0, threads=12)

    def stop(*signal_and_frame):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    print(f"listening on {server.effective_port}", flush=True)
    server.run()
    server.close()
    print("has stopped", flush=True)


if __name__ == "__main__":
    main()
