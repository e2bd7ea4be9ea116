#!/usr/bin/env bash
# Everything that must hold: format, lint, types, import rules, tests. One command from a fresh clone:
#
#   bash deploy/test.sh [pytest options]
#
# As root on Debian or Ubuntu it installs Mosquitto and GStreamer, so that nothing is skipped; otherwise it says plainly
# what was skipped. WITHOUT_TRAINER=1 leaves out torch and the trainer's tests.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
source deploy/environment.sh

packages=(mosquitto python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0
    gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})) && may_install; then
    install_packages "real broker and cameras for the tests" "${missing[@]}" && missing=()
fi

if [[ -n "${WITHOUT_TRAINER:-}" ]]; then environment dev; else environment trainer; fi

step() { printf '\n── %s\n' "$*"; "$@"; }
export PATH="$venv/bin:$PATH"
unset PYTHONDONTWRITEBYTECODE # hundreds of processes import the same libraries: compiled once, not by each
step ruff format --check .
step ruff check .
pytest --collect-only "$@" >/dev/null 2>&1 & # compiles them, and the tests, beside mypy; what is wrong, the tests say
trap 'kill $! 2>/dev/null || true' EXIT
step mypy
step lint-imports
wait
trap - EXIT
# Five at once on two cores: many wait for cameras, brokers and clocks. The tests of a file share what they set up.
export OMP_NUM_THREADS=1
step pytest -n 5 --dist loadfile --no-loadscope-reorder -rs --durations=15 "$@"

((${#missing[@]} == 0)) || say "skipped what needs these Debian packages: ${missing[*]}"
[[ -z "${WITHOUT_TRAINER:-}" ]] || say "skipped the trainer's tests (WITHOUT_TRAINER)"
say "all good"
