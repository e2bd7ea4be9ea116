#!/usr/bin/env bash
# Pins every dependency: names, versions, hashes; no addresses, so that any index or mirror serves them.
# Run it after a change of the dependencies in pyproject.toml, and commit deploy/lock/.
#
#   deploy/lock.sh                # all of them
#   deploy/lock.sh trainer-gpu    # this one alone
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=("$@")
pin() { # name, extras...
    local name=$1; shift
    [[ ${#wanted[@]} == 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
    uv pip compile pyproject.toml "${@/#/--extra=}" --universal --python-version 3.10 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header --quiet --output-file "deploy/lock/$name.txt"
    echo "deploy/lock/$name.txt: $(grep -c == "deploy/lock/$name.txt") packages"
}
pin edge edge s3
pin dev dev
pin trainer trainer detector dev
pin trainer-gpu trainer-gpu detector dev
