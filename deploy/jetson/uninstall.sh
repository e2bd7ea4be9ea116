#!/usr/bin/env bash
# Takes the node off this machine, as root:
#
#   sudo bash deploy/jetson/uninstall.sh [--purge]
#
# The service and all releases go. State with unsent facts (/var/lib/crosslane), configuration and passwords
# (/etc/crosslane) stay, for an installation to come; with --purge they go too, and the user crosslane with them.
set -euo pipefail

say() { printf 'uninstall.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

purge=
case "$*" in
    '') ;;
    --purge) purge=yes ;;
    *) fail "usage: sudo bash deploy/jetson/uninstall.sh [--purge]" ;;
esac
[[ "$(id -u)" == 0 ]] || fail "must run as root"

unit=/etc/systemd/system/crosslane-edge.service
if [[ -e "$unit" ]]; then
    systemctl disable --quiet --now crosslane-edge.service
    rm -f -- "$unit"
    systemctl daemon-reload
fi
rm -rf -- /opt/crosslane
if [[ -n "$purge" ]]; then
    rm -rf -- /var/lib/crosslane /etc/crosslane "$unit.d"
    ! id crosslane >/dev/null 2>&1 || userdel crosslane
    say "everything is gone"
else
    say "kept: /var/lib/crosslane and /etc/crosslane (--purge removes them)"
fi
