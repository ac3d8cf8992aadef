#!/usr/bin/env bash
# Run the image locked down, with podman: see --help.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: run.sh [options of podman run]

Runs localhost/exitramp:0.1.0 (IMAGE=… another one) as the container "exitramp" (NAME=…): non-root, read-only root, no
capabilities, no new privileges, seccomp, 2 processors, 4 GB, 256 processes, and no network but its own loopback
interface, so that nothing can leave it and questions come through podman exec. With PUBLISH=8000 it has a network, and
that port of 127.0.0.1 reaches it. Needs root, podman and runc, and slirp4netns to publish.

  deploy/containers/run.sh                       in the foreground
  PUBLISH=8000 deploy/containers/run.sh --detach
EOF
}
[[ ${1-} == --help ]] && usage && exit

options=(
    --name "${NAME:=exitramp}" --replace
    --read-only --tmpfs '/tmp:rw,noexec,nosuid,nodev,size=256m'
    --cap-drop ALL --security-opt no-new-privileges
    --cpus 2 --memory 4g --memory-swap 4g --pids-limit 256
    # Podman's own values are more than a root without CAP_SYS_RESOURCE may grant.
    --ulimit nofile=4096:4096 --ulimit nproc=4096:4096
    # As in docker-compose.yml: one less than the processors, for decoding and HTTP.
    --env EXITRAMP_THREADS=1
    # Longer than EXITRAMP_SHUTDOWN_GRACE_S.
    --stop-timeout 20
)
if [[ -n ${PUBLISH-} ]]; then
    # Needs neither a bridge nor a firewall, which sandboxes rarely let one make.
    options+=(--network slirp4netns --publish "127.0.0.1:$PUBLISH:8000")
else
    options+=(--network none)
fi

# Not crun, podman's first choice: it refuses the mixed cgroup hierarchies that some sandboxes have. The health check is
# repeated where there is systemd; without it podman says so and goes on.
exec podman --runtime runc run "${options[@]}" "$@" "${IMAGE:-localhost/exitramp:0.1.0}"
