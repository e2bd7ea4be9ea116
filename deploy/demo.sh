#!/usr/bin/env bash
# From a fresh clone to cross-camera matches over MQTT, in one command:
#
#   bash deploy/demo.sh [--seconds N] [--headless] [--out DIR] [--broker host:port] [--seed N] [--difficulty 0..1]
#
# With --loop [--learn N] the site learns from its own crops: node, store, trainer, bundle, and the node again.
#
# Needs Debian or Ubuntu (or alike), Python 3.10 or newer, and the network. Makes .venv beside this folder with what the
# demo needs and nothing else (for the loop also the trainer's packages); the second run starts at once.
# PYTHON=/path/to/python3 chooses an interpreter.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

case " $* " in
    *" --loop "*) environment trainer ;;
    *) environment edge ;;
esac
exec "$venv/bin/edge-app" demo "$@"
