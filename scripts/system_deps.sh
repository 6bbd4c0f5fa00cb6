#!/bin/sh
# What the tests use if it is there and is not a Python package. Nothing here is required: a test
# that misses it is skipped, and this says which ones and why. Installed only where apt-get may be
# called without asking anybody, once for an environment, and within a bounded time; nothing that
# fails here makes make fail. ZASYNC_SYSTEM_DEPS=no: install nothing.
set -u

SKIPPED="tests/functional/test_demo_browser.py (the demo in a real browser)"

for each in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$each" >/dev/null 2>&1 && exit 0
done

skip() {
    echo "Skipped without a Chromium: $SKIPPED. $1" >&2
    exit 0
}

[ "${ZASYNC_SYSTEM_DEPS:-}" = no ] && skip "ZASYNC_SYSTEM_DEPS=no: nothing is installed."
command -v apt-get >/dev/null 2>&1 || skip "There is no apt-get here: install a Chromium by hand."

root=""
if [ "$(id -u)" != 0 ]; then
    root="sudo -n"
    sudo -n true 2>/dev/null || skip "apt-get needs root here: install it by 'apt-get install chromium'."
fi

tried="${VENV:-.venv}/.system-deps-tried"
[ -e "$tried" ] && skip "Installing it has failed before; delete $tried to try again."

echo "Installing chromium by apt-get, for $SKIPPED; ZASYNC_SYSTEM_DEPS=no makes do without." >&2
# With its own time limits, so that it can undo its locks, and ours as the last resort.
apt="env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=1
    -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20"
bounded="timeout -k 10"
# Lists that are there already may do; else they are read first.
if $root $bounded 180 $apt -y install --no-install-recommends chromium >/dev/null 2>&1 </dev/null ||
    { $root $bounded 60 $apt update >/dev/null 2>&1 </dev/null &&
        $root $bounded 180 $apt -y install --no-install-recommends chromium >/dev/null 2>&1 </dev/null; }
then
    exit 0
fi
mkdir -p "$(dirname "$tried")" && : >"$tried"
skip "apt-get could not install it."
