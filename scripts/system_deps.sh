#!/bin/sh
# What the tests use if it is there and is not a Python package. Nothing here is
# required: a test that misses it is skipped and says so. apt-get is called only
# where it asks nobody, once, and for a bounded time.
set -u

grep -rqs chromium tests || exit 0
missing=""
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="chromium"
[ -z "$missing" ] && exit 0

stamp="${VENV:-.venv}/.system-deps-tried"
if [ ! -e "$stamp" ] && [ -n "${ZASYNC_SYSTEM_DEPS:-}" ]; then
    : >"$stamp"
    root=""
    [ "$(id -u)" = 0 ] || root="sudo -n"
    if command -v apt-get >/dev/null 2>&1 && $root true 2>/dev/null; then
        DEBIAN_FRONTEND=noninteractive timeout 60 $root apt-get -qq update >/dev/null 2>&1
        DEBIAN_FRONTEND=noninteractive timeout 180 $root apt-get -qq -y install \
            --no-install-recommends $missing >/dev/null 2>&1 && exit 0
    fi
fi
echo "Not on this machine: $missing. Tests that need it will be skipped (ZASYNC_SYSTEM_DEPS=1 lets make install it)."
