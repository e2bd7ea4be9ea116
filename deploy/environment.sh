# The environment of this checkout: .venv with exactly what a lock file names. Sourced, not run.
#
#   source deploy/environment.sh
#   environment edge          # deploy/lock/edge.txt: what the demo and a node need
#   environment trainer       # deploy/lock/trainer.txt: everything, for the tests
#
# system_packages=1 lets the environment see the system's packages: on a Jetson, GStreamer and TensorRT come with JetPack.
# Needs Python 3.10 or newer and the network; PYTHON=/path/to/python3 chooses an interpreter. uv is fetched when missing.
# shellcheck shell=bash

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"

say() { printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2; }
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

may_install() { [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; }

# install_packages WHY PACKAGE…: through apt as root; otherwise says what to type.
install_packages() {
    local why="$1"
    shift
    may_install || fail "$why; install the Debian packages and run this again:  sudo apt-get install -y $*"
    say "$why; installing $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# An empty .venv. Debian's own Python refuses `pip install` (PEP 668), so uv, where missing, goes into the environment.
make_venv() {
    local python="$1" private="${XDG_CACHE_HOME:-$HOME/.cache}/crosslane/uv"
    local see=()
    [[ -z "${system_packages:-}" ]] || see=(--system-site-packages)
    rm -rf "$venv"
    if uv --version >/dev/null 2>&1; then
        uv venv --quiet "${see[@]}" --python "$python" "$venv"
    elif "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "${see[@]}" "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip install --quiet --upgrade --target "$private" uv
        "$private/bin/uv" venv --quiet "${see[@]}" --python "$python" "$venv"
        ln -s "$private/bin/uv" "$venv/bin/uv"
    else
        install_packages "$python has neither venv nor pip" \
            "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        make_venv "$python"
    fi
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

# environment LOCK: make or complete .venv; returns at once when it, or a larger one, was made here before.
# A changed lock, or a clone that was moved, makes it anew.
environment() {
    local lock python uv larger
    [[ -r "$root/deploy/lock/$1.txt" ]] || fail "$root/deploy/lock/$1.txt is missing; clone the repository anew"
    case "$1" in edge) larger="edge dev trainer" ;; dev) larger="dev trainer" ;; *) larger="$1" ;; esac
    for lock in $larger; do
        if [[ "$(cat "$venv/.lock-$lock" 2>/dev/null)" == "$(wanted "$lock")" ]] && new_enough "$venv/bin/python"; then
            return
        fi
    done
    python="$(find_python)"
    say "preparing $venv for '$1' (once), with $("$python" --version)"
    new_enough "$venv/bin/python" || make_venv "$python"
    uv=uv
    uv --version >/dev/null 2>&1 || uv="$venv/bin/uv"
    "$uv" --version >/dev/null 2>&1 || { make_venv "$python" && uv="$venv/bin/uv"; }
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$root/deploy/lock/$1.txt"
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps -e "$root"
    check_opencv
    rm -f "$venv"/.lock-*
    wanted "$1" >"$venv/.lock-$1"
}

# What .venv is made for, as a digest.
wanted() {
    { cat "$root/deploy/lock/$1.txt" "$root/pyproject.toml" && printf '%s' "$root"; } | sha256sum | cut -d ' ' -f 1
}
