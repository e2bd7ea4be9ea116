#!/usr/bin/env bash
# Proves the README's two commands where nothing is prepared: in a new Debian with python3 and git and nothing else.
#
#   sudo bash deploy/fresh.sh [--only demo|test] [--cache DIR] [--suite NAME] [-- options of the command]
#
# Needs root, debootstrap and the network, two minutes for the demo and much longer for the tests; nothing of this
# machine is changed, and no other check calls it. What is committed is tried. --cache keeps the bare root for the next
# time (default: a temporary folder); --suite is Debian's, bookworm where not said. A proxy and a certificate of this
# machine (http_proxy, https_proxy, SSL_CERT_FILE) are carried along, since without them some networks have no outside.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf 'fresh.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 2; }

only=(demo test) cache= suite=bookworm
while (($#)); do
    case "$1" in
        --only) [[ "${2:-}" == demo || "${2:-}" == test ]] || fail "--only takes demo or test"; only=("$2"); shift 2 ;;
        --cache) cache="$(realpath -- "${2:?--cache takes a folder}")"; shift 2 ;;
        --suite) suite="${2:?--suite takes the name of a Debian release}"; shift 2 ;;
        --) shift; break ;;
        *) fail "unknown option $1; expected [--only demo|test] [--cache DIR] [--suite NAME] [-- options]" ;;
    esac
done
(($# == 0)) || ((${#only[@]} == 1)) || fail "options after -- belong to one command: say which with --only"
[[ "$(id -u)" == 0 ]] || fail "must run as root: it makes a root of its own and enters it"
command -v debootstrap >/dev/null || fail "debootstrap is missing:  apt-get install -y debootstrap"

work="$(mktemp -d)"
trap 'rm -rf --one-file-system -- "$work"' EXIT
base="${cache:-$work}/debian-$suite"
if [[ ! -e "$base" ]]; then
    say "making a bare $suite in $base"
    mkdir -p "$(dirname "$base")"
    debootstrap --variant=minbase --include=python3,git "$suite" "$base.part" >"$work/debootstrap.log" ||
        { tail -n 5 "$work/debootstrap.log" >&2; rm -rf --one-file-system -- "$base.part"; fail "debootstrap failed"; }
    mv -T "$base.part" "$base"
fi

carried=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM="${TERM:-dumb}")
for name in http_proxy https_proxy no_proxy WITHOUT_TRAINER; do
    [[ -z "${!name:-}" ]] || carried+=("$name=${!name}")
done
[[ -z "${SSL_CERT_FILE:-}" ]] || carried+=(SSL_CERT_FILE=/root/certificates.pem PIP_CERT=/root/certificates.pem)

# try_in ROOT COMMAND…: in namespaces of its own, so that neither a mount nor a process outlives it.
try_in() {
    local bare="$1"
    shift
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child --uts bash -euc '
        bare="$1"; shift
        mount --bind "$bare" "$bare" # else what runs there cannot make a mount namespace of its own
        mount -t proc proc "$bare/proc"
        mount --rbind /dev "$bare/dev"
        exec chroot "$bare" "$@"' bash "$bare" env -i "${carried[@]}" "$@"
}

failed=0
for name in "${only[@]}"; do
    bare="$work/$name"
    cp -a -- "$base" "$bare"
    cp -L /etc/resolv.conf "$bare/etc/resolv.conf"
    echo "127.0.0.1 localhost" >"$bare/etc/hosts" # debootstrap leaves it to whoever installs
    [[ -z "${SSL_CERT_FILE:-}" ]] || cp -L -- "$SSL_CERT_FILE" "$bare/root/certificates.pem"
    git clone --quiet --no-local -- "$PWD" "$bare/root/crosslane"
    [[ "$name" == test ]] || set -- --headless "$@"
    say "$(git rev-parse --short HEAD): bash deploy/$name.sh $*"
    began=$SECONDS code=0
    try_in "$bare" bash /root/crosslane/deploy/"$name.sh" "$@" || code=$?
    say "deploy/$name.sh ended with $code after $((SECONDS - began)) s"
    ((code == 0)) || failed=1
    [[ "$name" == test ]] || shift
    rm -rf --one-file-system -- "$bare"
done
exit "$failed"
