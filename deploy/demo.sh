#!/usr/bin/env bash
# From a fresh clone to cross-camera matches over MQTT, in one command:
#
#   bash deploy/demo.sh [--seconds N] [--headless] [--out DIR] [--broker host:port] [--seed N] [--difficulty 0..1]
#
# Needs Debian or Ubuntu (or alike), Python 3.10 or newer, and the network. Makes .venv beside this folder with what the
# demo needs and nothing else; the second run starts at once. PYTHON=/path/to/python3 chooses an interpreter.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
lock="$root/deploy/lock/edge.txt"
stamp="$venv/.edge-lock"

say() { printf 'demo.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    local name
    if [[ -n "${PYTHON:-}" ]]; then
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 or newer"
        printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "no Python 3.10 or newer found (python3 is $(python3 --version 2>&1 || true)); install one, or name it: PYTHON=/path/to/python3"
}

# install_packages WHY PACKAGE…: through apt as root; otherwise says what to type.
install_packages() {
    local why="$1" sudo=""
    shift
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
        [[ "$(id -u)" == 0 ]] || sudo="sudo "
        fail "$why; install the Debian packages and run this again:  ${sudo}apt-get install -y $*"
    fi
    say "$why; installing $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# make_environment PYTHON: an empty .venv, and `uv` set to a uv that runs.
# Debian's own Python refuses `pip install` (PEP 668), so uv, where missing, goes into the environment itself.
make_environment() {
    local python="$1" private="${XDG_CACHE_HOME:-$HOME/.cache}/crosslane/uv"
    rm -rf "$venv"
    if uv --version >/dev/null 2>&1; then
        uv=uv
        uv venv --quiet --python "$python" "$venv"
        return
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if "$python" -m pip --version >/dev/null 2>&1; then
            "$python" -m pip install --quiet --upgrade --target "$private" uv
            uv="$private/bin/uv"
            "$uv" venv --quiet --python "$python" "$venv"
            return
        fi
        install_packages "$python has neither venv nor pip" \
            "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
    uv="$venv/bin/uv"
}

# OpenCV's wheel leaves two libraries to the system, which a bare Debian lacks.
check_opencv() {
    local problem
    problem="$("$venv/bin/python" -c 'import cv2' 2>&1)" && return
    case "$problem" in
        *libGL* | *libgthread* | *libglib*) install_packages "OpenCV: ${problem##*$'\n'}" libgl1 libglib2.0-0 ;;
        *) fail "OpenCV does not load: $problem" ;;
    esac
    "$venv/bin/python" -c 'import cv2' || fail "OpenCV still does not load"
}

# What .venv was made for; a changed lock, or a clone that was moved, makes it anew.
wanted="$({ cat "$lock" "$root/pyproject.toml" && printf '%s' "$root"; } | sha256sum | cut -d ' ' -f 1)" ||
    fail "$lock is missing; clone the repository anew"
if [[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]] || ! new_enough "$venv/bin/python"; then
    python="$(find_python)"
    say "preparing $venv (once), with $("$python" --version)"
    if new_enough "$venv/bin/python"; then
        uv="$venv/bin/uv"
        "$uv" --version >/dev/null 2>&1 || uv=uv
        "$uv" --version >/dev/null 2>&1 || make_environment "$python"
    else
        make_environment "$python"
    fi
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$lock"
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps -e "$root"
    check_opencv
    printf '%s\n' "$wanted" >"$stamp"
fi
exec "$venv/bin/edge-app" demo "$@"
