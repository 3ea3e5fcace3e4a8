#!/bin/sh
# Make .venv: Python packages of this project and the proxy; does nothing when it is up to date.
# Usage: setup/venv.sh EXTRA    (EXTRA: local = what a trial without Docker wants; test = all that the tests want)
set -eu
cd "$(dirname "$0")/.."
extra=$1
python=${PYTHON:-python3}
stamp=.venv/.ready-$extra
# a venv remembers its own place, so a moved checkout needs a new one
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$PWD $(cksum <pyproject.toml)" ]; then exit 0; fi

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "AcademyHub needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || echo missing). Set PYTHON=/path/to/python3.11."
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=no; fi
    if [ "$sudo" = no ] || ! command -v apt-get >/dev/null; then
        fail "Python's venv module is missing. Install it and run this again: sudo apt-get install python3-venv"
    fi
    say "Installing python3-venv"
    $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq python3-venv >/dev/null
fi
say "Setting up Python packages in .venv (a few minutes the first time)"
if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null || ! [ "$(sed -n 's/^VIRTUAL_ENV=//p' .venv/bin/activate | tr -d '"'"'")" = "$PWD/.venv" ]; then
    rm -rf .venv
    "$python" -m venv .venv
fi
mkdir -p build
{ .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off -e ".[$extra]" 2>build/pip.log ||
    touch build/pip.failed; } | awk '
        /^(Collecting|Installing collected)/ { n++; if (tty) printf "\r\033[K  %d  %.100s", n, $0; else if (n % 25 == 0) print "  " n " packages" }
        { fflush() }
        END { if (tty) printf "\r\033[K" }' tty="$([ -t 1 ] && echo 1 || echo 0)"
if [ -e build/pip.failed ]; then
    rm build/pip.failed
    fail "Installing Python packages failed: $(tail -5 build/pip.log)"
fi
say "Setting up the proxy (configurable-http-proxy)"
export PATH="$PWD/.venv/bin:$PATH"
[ -x .venv/proxy/node_modules/.bin/configurable-http-proxy ] ||
    npm install --silent --no-fund --no-audit --prefix .venv/proxy 'configurable-http-proxy@^5.3'
printf '%s' "$PWD $(cksum <pyproject.toml)" >"$stamp"
