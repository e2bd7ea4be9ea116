# The environment of this checkout: .venv with exactly what a lock file names. Sourced, not run.
#
#   source deploy/environment.sh
#   environment edge          # deploy/lock/edge.txt: what the demo and a node need
#   environment trainer       # deploy/lock/trainer.txt: everything, for the tests
#   environment trainer-gpu   # deploy/lock/trainer-gpu.txt: the same, with a faiss that searches on a GPU
#
# system_packages=1 lets the environment see the system's packages: on a Jetson, GStreamer and TensorRT come with JetPack.
# Needs Python 3.10 or newer and the network; PYTHON=/path/to/python3 chooses an interpreter. uv is fetched when missing.
# PACKAGES=/path/to/site-packages takes what lies there (of the same Python) instead of what the lock names, and needs no
# network: for a device that was given its packages another way, and for tests.
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
    if [[ -n "${PACKAGES:-}" ]]; then
        "$python" -m venv --without-pip "${see[@]}" "$venv"
    elif uv --version >/dev/null 2>&1; then
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

# Wheels leave some shared libraries to the system. Prints what the environment lacks of them, one a line.
missing_libraries() {
    "$venv/bin/python" - <<'PYTHON'
import importlib
import re

COMPILED = "cv2 av onnxruntime scipy.optimize PIL.Image cysystemd.daemon torch faiss sklearn"
for module in COMPILED.split():
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        pass  # not in this lock
    except (ImportError, OSError) as error:
        lacking = re.match(r"(\S+\.so\S*): cannot open shared object file", str(error))
        if not lacking:
            raise
        print(lacking[1])
PYTHON
}

# package_of LIBRARY: its Debian package, by the rule of Debian's policy (libxcb.so.1 is in libxcb1, libglib-2.0.so.0 in
# libglib2.0-0) where apt knows such a package, else, for root, by looking into the packages. Nothing when not found.
package_of() {
    local name="${1%%.so*}" version="${1##*.so}" package
    name="$(printf '%s' "$name" | tr '[:upper:]_' '[:lower:]-' | sed 's/-\([0-9]\)/\1/')"
    [[ "$name" != *[0-9] ]] || name+=-
    package="$name${version#.}"
    if apt-get install --simulate "$package" >/dev/null 2>&1; then
        printf '%s\n' "$package"
    elif may_install; then
        install_packages "looking for the package of $1" apt-file
        apt-file update >/dev/null && apt-file search --regexp "/lib/.*/$1\$" | head -n 1 | cut -d : -f 1
    fi
}

# One library hides the next, so this looks again until nothing is missing.
complete_libraries() {
    local library package before=
    while true; do
        library="$(missing_libraries)" || fail "a package does not load, see above"
        [[ -n "$library" ]] || return 0
        library="${library%%$'\n'*}"
        [[ "$library" != "$before" ]] || fail "$library is still missing, though its package is installed"
        before="$library"
        ! may_install || apt-get update -qq
        package="$(package_of "$library")"
        [[ -n "$package" ]] || fail "the shared library $library is missing; install the package that brings it" \
            "(on Debian and Ubuntu, apt-file search $library names it) and run this again"
        install_packages "the shared library $library is missing" "$package"
    done
}

# The packages of the lock, or those of the folder PACKAGES.
fill_venv() {
    local uv="$1" lock="$2" own
    if [[ -n "${PACKAGES:-}" ]]; then
        own="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
        printf '%s\n' "$root" "$PACKAGES" >"$own/crosslane.pth"
        printf '#!%s\nfrom edge_app.__main__ import main\nmain()\n' "$venv/bin/python" >"$venv/bin/edge-app"
        chmod +x "$venv/bin/edge-app"
        return
    fi
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r "$root/deploy/lock/$lock.txt"
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps -e "$root"
}

# environment LOCK: make .venv; returns at once when it, or a larger one, was made here before. A changed lock, or a
# clone that was moved, makes it anew: what the lock does not name any more would stay in the old one.
environment() {
    local lock python uv=uv larger PATH=":$PATH:"
    PATH="${PATH//":$venv/bin:"/:}" PATH="${PATH#:}" PATH="${PATH%:}" # an activated .venv must not make itself anew
    [[ -r "$root/deploy/lock/$1.txt" ]] || fail "$root/deploy/lock/$1.txt is missing; clone the repository anew"
    case "$1" in
        edge) larger="edge dev trainer trainer-gpu" ;;
        dev | trainer) larger="$1 trainer trainer-gpu" ;;
        *) larger="$1" ;;
    esac
    for lock in $larger; do
        if [[ "$(cat "$venv/.lock-$lock" 2>/dev/null)" == "$(wanted "$lock")" ]] && new_enough "$venv/bin/python"; then
            return
        fi
    done
    python="$(find_python)"
    say "preparing $venv for '$1' (once), with $("$python" --version)"
    make_venv "$python"
    uv --version >/dev/null 2>&1 || uv="$venv/bin/uv"
    fill_venv "$uv" "$1"
    [[ -n "${PACKAGES:-}" ]] || complete_libraries
    wanted "$1" >"$venv/.lock-$1"
}

# What .venv is made for, as a digest.
wanted() {
    { cat "$root/deploy/lock/$1.txt" "$root/pyproject.toml" && printf '%s' "$root"; } | sha256sum | cut -d ' ' -f 1
}
