#!/usr/bin/env bash
# Installs or updates one node on a Jetson (JetPack 6) or any Debian or Ubuntu, as root, from a clone of the repository:
#
#   sudo bash deploy/jetson/install.sh path/to/site.yaml
#
# What is committed goes into /opt/crosslane/releases/<version>, with an environment of its own. Only when that is ready
# and `edge-app check` has passed in the service's own sandbox and environment, the link /opt/crosslane/current, the
# configuration and the unit are exchanged and the service restarts. When the node is not well then, everything goes
# back to what it was. Well is: ready within WAIT_S (300) seconds, then SETTLE_S (20) seconds at work without a restart,
# and no fewer cameras deliver than before. The release before is kept, older ones go. State is never touched.
set -euo pipefail
umask 022

say() { printf 'install.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

releases=/opt/crosslane/releases current=/opt/crosslane/current
site=/etc/crosslane/site.yaml unit=/etc/systemd/system/crosslane-edge.service secrets=/etc/crosslane/secrets.env
service=crosslane-edge.service
declare -A node=() # what systemd and the node said last

# ── a release, beside the running one

# Everything that a release is made of is in its name, so one that is there and complete is never touched again.
release_name() {
    local name
    name="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)-$(git_here rev-parse --short=12 HEAD)"
    ! wants_tensorrt || name+=-tensorrt
    printf '%s\n' "$name"
}

git_here() { git -c safe.directory="$PWD" "$@"; }

wants_tensorrt() { grep -Eq '^[^#]*backend: *tensorrt' "$wanted_site"; }

make_release() {
    local folder="$1"
    rm -rf -- "$folder"
    install -d "$folder"
    git_here archive HEAD | tar -x --no-same-owner --no-same-permissions -C "$folder"
    (
        cd "$folder"
        # shellcheck source=deploy/environment.sh
        source deploy/environment.sh
        UV_COMPILE_BYTECODE=1 system_packages=1 environment edge # the service may not write bytecode itself
    )
    if wants_tensorrt && ! "$folder/.venv/bin/python" -c 'import pycuda' 2>/dev/null; then
        PATH="/usr/local/cuda/bin:$PATH:$folder/.venv/bin" \
            uv pip install --quiet --python "$folder/.venv/bin/python" 'pycuda>=2024.1' ||
            fail "backend tensorrt needs pycuda, which did not build; is CUDA in /usr/local/cuda?"
    fi
    runuser -u crosslane -- "$folder/.venv/bin/python" -c '' 2>/dev/null || fail "the service's user may not run" \
        "$(readlink -f "$folder/.venv/bin/python"); name a Python of the system: PYTHON=/usr/bin/python3"
    "$folder/.venv/bin/python" -m compileall -q "$folder/edge_app"
    touch "$folder/.complete"
}

# ── the check, as the service will run: user, variables of secrets.env, sandbox; drop-ins of the unit count

check_release() {
    local folder="$1" key line properties=()
    while IFS= read -r line; do
        key="${line%%=*}"
        case "$key" in
            '#'* | '['* | '' | Type | Exec* | Restart* | WatchdogSec | Notify* | Timeout* | WorkingDirectory) ;;
            *) properties+=(-p "$line") ;;
        esac
    done < <(sed -n '/^\[Service\]/,/^\[[^S]/p' "$folder/deploy/jetson/$service" "$unit".d/*.conf 2>/dev/null)
    systemd-run --quiet --wait --pipe --collect "${properties[@]}" -p WorkingDirectory="$folder" \
        "$folder/.venv/bin/edge-app" check --lenient --config "$site.new"
}

# ── the exchange, and the way back

# The configuration that was well last, since the one in its place may have been edited since.
remember() {
    local good="$site"
    before="$(mktemp -d /opt/crosslane/.before.XXXXXX)"
    look
    delivering="${node[delivering]}"
    [[ ! -e "$site.good" ]] || good="$site.good"
    [[ ! -e "$good" ]] || cp -a -- "$good" "$before/site.yaml"
    [[ ! -e "$unit" ]] || cp -a -- "$unit" "$before/unit"
    [[ ! -L "$current" ]] || cp -a -- "$current" "$before/current"
}

# put FILE PLACE: whole or not at all.
put() {
    cp -aT --remove-destination -- "$1" "$2.part"
    sync -- "$2.part"
    mv -T -- "$2.part" "$2"
}

exchange() {
    put "$site.new" "$site"
    rm -f "$site.new"
    put "$releases/$1/deploy/jetson/$service" "$unit"
    ln -sfn "releases/$1" "$current.part"
    mv -T "$current.part" "$current"
    sync
    restart
}

restart() {
    look
    invocation="${node[InvocationID]:-}"
    systemctl daemon-reload
    systemctl enable --quiet "$service"
    systemctl restart --no-block "$service"
}

go_back() {
    local problem
    trap - EXIT
    trap '' INT TERM HUP
    journalctl --no-pager --lines=20 --unit="$service" --output=cat >&2 2>/dev/null || true
    if [[ ! -e "$before/unit" ]]; then
        rm -rf -- "$before"
        fail "$1; there is no earlier release to go back to: see journalctl -u $service, mend it, run this again"
    fi
    say "$1; going back"
    put "$before/unit" "$unit"
    if [[ -e "$before/site.yaml" ]] && ! cmp -s "$before/site.yaml" "$site"; then
        put "$site" "$site.rejected"
        put "$before/site.yaml" "$site"
        say "the configuration goes back too; the new one is kept as $site.rejected"
    fi
    if [[ -L "$before/current" ]]; then put "$before/current" "$current"; else rm -f "$current"; fi
    rm -rf -- "$before" "$site.new"
    [[ "$(readlink -f "$current")" == "$releases/$name" ]] || rm -rf -- "${releases:?}/$name"
    restart
    if problem="$(unwell "$delivering")"; then
        fail "the release before is back, but it is not well either: $problem"
    fi
    fail "the release before runs again; state and unsent facts are as they were"
}

# ── is the node well?

# look: asks systemd once. The node itself says "3 of 4 cameras deliver; …; step 1234".
look() {
    local key value
    node=([delivering]='' [cameras]='' [step]='')
    while IFS='=' read -r key value; do node[$key]="$value"; done < <(
        systemctl show --property=ActiveState,NRestarts,InvocationID,StatusText "$service"
    )
    if [[ "${node[StatusText]:-}" =~ ^([0-9]+)\ of\ ([0-9]+)\ cameras\ deliver.*\;\ step\ ([0-9]+)$ ]]; then
        node[delivering]="${BASH_REMATCH[1]}" node[cameras]="${BASH_REMATCH[2]}" node[step]="${BASH_REMATCH[3]}"
    fi
}

# unwell BEFORE: waits until the node that was started last is well, and has been for a while: then false. Else prints
# what is wrong, and true. BEFORE: how many cameras delivered; empty where that is not known.
unwell() {
    local deadline=$((SECONDS + ${WAIT_S:-300})) since= first= wanted
    while ((SECONDS < deadline)); do
        sleep 1
        look
        [[ "${node[InvocationID]:-}" != "$invocation" ]] || continue # the old one is still stopping
        if [[ "${node[ActiveState]:-}" == failed || "${node[NRestarts]:-}" == [1-9]* ]]; then
            printf 'it ended by itself\n'
            return
        fi
        [[ "${node[ActiveState]:-}" == active ]] || continue
        [[ -n "$since" ]] || since=$SECONDS first="${node[step]}"
        ((SECONDS - since >= ${SETTLE_S:-20})) || continue
        if [[ -n "$first" && "${node[step]}" == "$first" ]]; then # version 0.1 says nothing of steps
            printf 'its pipeline hangs\n'
            return
        fi
        wanted=$((${1:-0} < ${node[cameras]:-0} ? ${1:-0} : ${node[cameras]:-0})) # a new site may have fewer
        ((${node[delivering]:-0} < wanted)) || return 1
    done
    if [[ "${node[ActiveState]:-}" == active ]]; then
        printf '%s of %s cameras deliver; before, %s did\n' "${node[delivering]:-0}" "${node[cameras]:-0}" "$1"
    else
        printf 'it was not ready within %s s\n' "${WAIT_S:-300}"
    fi
}

prune() {
    local kept name
    kept="$(readlink "$before/current" || true)"
    for name in "$releases"/*; do
        [[ "$name" == "$(readlink -f "$current")" || "$name" == "/opt/crosslane/$kept" ]] || rm -rf -- "$name"
    done
    rm -rf -- "$before"
    [[ ! -e /opt/crosslane/edge_app ]] || say "version 0.1 lies in /opt/crosslane beside releases/; delete it once" \
        "your configuration names nothing there"
}

[[ $# == 1 ]] || fail "usage: sudo bash deploy/jetson/install.sh path/to/site.yaml"
wanted_site="$(realpath -- "$1")"
[[ -f "$wanted_site" && -r "$wanted_site" ]] || fail "$1 is no file that can be read"
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
[[ "$(id -u)" == 0 ]] || fail "must run as root"
git_here rev-parse --quiet --verify HEAD >/dev/null || fail "$PWD is no clone of the repository; use git clone"
[[ -z "$(git_here status --porcelain --untracked-files=no)" ]] || say "changes that are not committed are not installed"

id crosslane >/dev/null 2>&1 || useradd --system --home-dir /var/lib/crosslane --groups video crosslane
install -d -m 0700 -o crosslane -g crosslane /var/lib/crosslane
install -d -m 0750 -o root -g crosslane /etc/crosslane
install -d /opt/crosslane "$releases"
exec 9>/opt/crosslane/.lock
flock -n 9 || fail "another installation is running"
[[ -e "$secrets" ]] || install -m 0600 /dev/null "$secrets"

name="$(release_name)"
[[ -e "$releases/$name/.complete" ]] || make_release "$releases/$name"
install -m 0640 -o root -g crosslane "$wanted_site" "$site.new"
check_release "$releases/$name" || { rm -f "$site.new"; fail "the check failed; the installed node was not touched"; }
remember
trap 'go_back "interrupted"' EXIT
exchange "$name"
if problem="$(unwell "$delivering")"; then
    go_back "release $name is not well: $problem"
fi
trap - EXIT
put "$site" "$site.good"
prune
look
say "release $name runs: ${node[StatusText]:-}"
