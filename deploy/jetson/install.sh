#!/usr/bin/env bash
# Installs one node on a Jetson (JetPack 6) or any Debian or Ubuntu, as root, from a clone of the repository:
#
#   sudo bash deploy/jetson/install.sh path/to/site.yaml
#
# Puts the application into /opt/crosslane, the configuration into /etc/crosslane, state into /var/lib/crosslane, checks
# everything (`edge-app check`), and starts the service. Run it again after an update; nothing of the state is touched.
set -euo pipefail
site="$(realpath -- "${1:?usage: sudo bash deploy/jetson/install.sh path/to/site.yaml}")"
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
[[ "$(id -u)" == 0 ]] || { echo "install.sh: must run as root" >&2; exit 1; }

id crosslane >/dev/null 2>&1 || useradd --system --home-dir /var/lib/crosslane --groups video crosslane
install -d -o crosslane -g crosslane /var/lib/crosslane
install -d /opt/crosslane /etc/crosslane
git archive HEAD | tar -x -C /opt/crosslane
(cd /opt/crosslane && source deploy/environment.sh && system_packages=1 environment edge)
install -m 0644 "$site" /etc/crosslane/site.yaml
if grep -Eq '^[^#]*backend: *tensorrt' "$site" && ! /opt/crosslane/.venv/bin/python -c 'import pycuda' 2>/dev/null; then
    uv="$(command -v uv || printf /opt/crosslane/.venv/bin/uv)"
    PATH="/usr/local/cuda/bin:$PATH" "$uv" pip install --quiet --python /opt/crosslane/.venv/bin/python 'pycuda>=2024.1' ||
        { echo "install.sh: backend tensorrt needs pycuda, which did not build; is CUDA in /usr/local/cuda?" >&2; exit 1; }
fi
[[ -e /etc/crosslane/secrets.env ]] || install -m 0600 -o crosslane /dev/null /etc/crosslane/secrets.env
# Also builds the engines of models that run on TensorRT, as the user of the service.
runuser -u crosslane -- /opt/crosslane/.venv/bin/edge-app check --config /etc/crosslane/site.yaml
install -m 0644 deploy/jetson/crosslane-edge.service /etc/systemd/system/crosslane-edge.service
systemctl daemon-reload
systemctl enable --now crosslane-edge.service
systemctl --no-pager status crosslane-edge.service
