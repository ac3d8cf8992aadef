#!/usr/bin/env bash
# Start the image as run.sh does and see that every lock holds: see --help.
# shellcheck disable=SC2317,SC2329 # functions are invoked by check; the number differs with the version
set -uo pipefail

usage() {
    cat <<'EOF'
usage: verify.sh [--compressed]

Starts localhost/exitramp:0.1.0 (IMAGE=… another one) as run.sh does, without a network, and sees that every lock holds
and that it serves: one line for each thing looked at, and exit code 1 if one of them is not as it should be. Says what
image and process cost; with --compressed also what the image is over a network, which takes a minute or two.
EOF
}
[[ ${1-} == --help ]] && usage && exit

here=$(dirname "$(realpath "$0")")
readonly here image=${IMAGE:-localhost/exitramp:0.1.0}
export NAME=exitramp-verify-$$
failed=0

# check WHAT COMMAND…: the command succeeds.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        printf 'ok      %s%s\n' "$what" "${said:+: ${said//$'\n'/ }}"
    else
        printf 'FAILED  %s: %s\n' "$what" "${said//$'\n'/ }" && failed=1
    fi
}
# Without what podman says of systemd and of networks that are not used here.
quietly() { podman "$@" 2> >(grep -Ev 'systemd|CNI' >&2); }
inside() { quietly exec "$NAME" "$@"; }
python_inside() { quietly exec --interactive "$NAME" python -c "$@"; }

state() { quietly container inspect --format "{{.State.$1}}" "$NAME"; }

ready() {
    local deadline=$((SECONDS + 120))
    until quietly healthcheck run "$NAME" >/dev/null 2>&1; do
        if ((SECONDS > deadline)) || [[ $(state Running) != true ]]; then
            podman logs "$NAME" 2>&1 | tail -5
            return 1
        fi
        sleep 0.5
    done
    echo "after $((SECONDS - started)) s"
}
# The server's own line of /proc, not that of a process beside it.
status_is() { inside grep -E "^$1:[[:space:]]+$2\$" /proc/1/status; }
refused() {
    local said
    said=$(inside touch "$1" 2>&1)
    echo "$said" && [[ $said == *'Read-only file system' ]]
}
only_loopback() { [[ $(inside ls /sys/class/net) == lo ]]; }
limit_is() { inside sh -c "cat /sys/fs/cgroup/$1 2>/dev/null || cat /sys/fs/cgroup/$2" | grep -x "$3"; }
killed_beyond_memory() {
    quietly --runtime runc run --rm --network none --memory 128m --memory-swap 128m \
        --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 --entrypoint python "$image" -c 'bytearray(256 << 20)'
    (($? == 137))
}
classified() {
    python_inside '
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
connection.request("POST", "/classify", sys.stdin.buffer.read(), {"X-FLOP-Budget": "25M"})
answer = json.loads(connection.getresponse().read())
best = answer["predictions"][0]
print(best["label"], best["probability"], "exit", best["exit"], answer["flops"], "FLOPs")
sys.exit(best["label"] != "ship")' <"$here/../../tests/images/ship.png"
}
drained() {
    quietly stop "$NAME" >/dev/null
    echo "exit code $(state ExitCode)"
    [[ $(podman logs "$NAME" 2>&1) == *'"draining"'* && $(state ExitCode) == 0 ]]
}

# Where conmon leaves a file when a process is killed for its memory.
scratch=$(mktemp --directory)
trap 'podman rm --force --time 0 "$NAME" >/dev/null 2>&1; rm -r "$scratch"' EXIT
cd "$scratch" || exit 1

started=$SECONDS
"$here/run.sh" --detach >/dev/null 2>&1 || exit 1

check 'healthy by its own health check' ready
check 'user' status_is Uid '10001[[:space:]]10001[[:space:]]10001[[:space:]]10001'
check 'no capabilities in effect' status_is CapEff 0+
check 'none to be had' status_is CapBnd 0+
check 'no new privileges' status_is NoNewPrivs 1
check 'seccomp filters' status_is Seccomp 2
check 'the root cannot be written' refused /written
check 'nor the code' refused /opt/exitramp/lib/written
check '/tmp can be written' inside touch /tmp/written
check 'no network but loopback' only_loopback
check 'memory limit, bytes' limit_is memory.max memory/memory.limit_in_bytes 4294967296
check 'process limit' limit_is pids.max pids/pids.max 256
check 'killed beyond its memory' killed_beyond_memory
check 'an image is classified offline' classified
check 'resident memory' inside grep -E '^Vm(RSS|HWM):' /proc/1/status
check 'SIGTERM drains' drained

echo
printf 'image: %s MB uncompressed' "$(($(podman image inspect --format '{{.Size}}' "$image") / 1000000))"
if [[ ${1-} == --compressed ]]; then
    printf ', %s MB as layers are sent (gzip)' "$(($(podman save "$image" 2>/dev/null | gzip | wc -c) / 1000000))"
fi
printf '; its largest parts, MB:\n'
podman --runtime runc run --rm --network none --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 --entrypoint sh \
    "$image" -c 'cd /opt/exitramp/lib/python3.*/site-packages && du --block-size=MB -s /usr -- * | sort -rn | head -8' \
    2>/dev/null
exit "$failed"
