#!/usr/bin/env bash
# From a fresh clone to cross-camera matches over MQTT, in one command:
#
#   bash deploy/demo.sh [--seconds N] [--headless] [--out DIR] [--broker host:port] [--seed N] [--difficulty 0..1]
#
# Needs Debian or Ubuntu (or alike), Python 3.10 or newer, and the network. Makes .venv beside this folder with what the
# demo needs and nothing else; the second run starts at once. PYTHON=/path/to/python3 chooses an interpreter.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

environment edge
exec "$venv/bin/edge-app" demo "$@"
