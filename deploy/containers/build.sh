#!/usr/bin/env bash
# Build the Dockerfile without Docker, and without a registry: see --help.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: build.sh [options] [-- options of buildah build]

Builds the image localhost/exitramp:0.1.0 from the Dockerfile with buildah in chroot isolation, which needs neither a
daemon nor systemd nor namespaces for its steps. Unless --python names an image, what it builds upon is made here:
Debian bookworm with its Python 3.11, from packages (debootstrap). Needs root, buildah and debootstrap.

  --target STAGE         service (default) or loadtest (localhost/exitramp-loadtest:0.1.0)
  --wheels DIR           a folder of wheels that pip and uv prefer at equal versions, for instance PyTorch for CPUs
  --no-index             everything is in that folder; ask no package index
  --torch-backend NAME   cpu (default), cu130, …; with --wheels it is empty: PyTorch from that folder, or PyPI's own
  --certificates FILE    certificate authorities for the build, where a proxy has its own; they do not enter the image
  --python IMAGE         build upon this image, for instance python:3.11-slim-bookworm (and its siblings with strip)
  --builder IMAGE        with --python: for the stages that install; it has strip, and Python at the same place
  --mirror URL           Debian mirror; debootstrap's own unless given
EOF
}

readonly version=0.1.0
readonly base=localhost/exitramp-python:bookworm base_builder=localhost/exitramp-python-builder:bookworm
target=service wheels="" no_index="" torch_backend="" certificates="" python="" builder="" mirror=""
torch_backend_given=""

while (($#)); do
    case $1 in
        --target) target=$2 && shift 2 ;;
        --wheels) wheels=$(realpath -e "$2") && shift 2 ;;
        --no-index) no_index=1 && shift ;;
        --torch-backend) torch_backend=$2 torch_backend_given=1 && shift 2 ;;
        --certificates) certificates=$(realpath -e "$2") && shift 2 ;;
        --python) python=$2 && shift 2 ;;
        --builder) builder=$2 && shift 2 ;;
        --mirror) mirror=$2 && shift 2 ;;
        --help) usage && exit ;;
        --) shift && break ;;
        *) usage >&2 && exit 2 ;;
    esac
done

# Debian with Python and nothing else, made in a container's root; the second image adds what only builds need.
make_base() {
    local container root
    container=$(buildah from scratch)
    root=$(buildah mount "$container")
    debootstrap --force-check-gpg --variant=minbase --include=python3,ca-certificates bookworm "$root" ${mirror:+"$mirror"}
    # debootstrap knows nothing of the suite with the security updates.
    sed -n 's|/debian bookworm |/debian-security bookworm-security |p' "$root/etc/apt/sources.list" \
        >"$root/etc/apt/sources.list.d/security.list"
    in_chroot "$container" sh -c 'apt-get update && apt-get upgrade --yes'
    in_chroot "$container" sh -c 'apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/*.log /var/cache/debconf/*-old'
    find "$root"/usr/share/{doc,info,locale,man} -mindepth 1 -delete
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env LANG=C.UTF-8 --cmd python3 "$container"
    buildah unmount "$container" >/dev/null
    buildah commit --quiet --rm "$container" "$base"

    container=$(buildah from "$base")
    in_chroot "$container" sh -c 'apt-get update && apt-get install --yes --no-install-recommends python3-venv binutils'
    buildah commit --quiet --rm "$container" "$base_builder"
}

in_chroot() {
    local container=$1 && shift
    buildah run --isolation chroot --env DEBIAN_FRONTEND=noninteractive "$container" -- "$@"
}

cd "$(dirname "$0")/../.."
if [[ -z $python ]]; then
    buildah inspect --type image "$base_builder" >/dev/null 2>&1 || make_base
    python=$base builder=$base_builder
fi

arguments=(--build-arg "PYTHON_IMAGE=$python")
[[ -n $builder ]] && arguments+=(--build-arg "BUILDER_IMAGE=$builder")
[[ -n $no_index ]] && arguments+=(--build-arg NO_INDEX=1)
[[ -n $certificates ]] && arguments+=(--secret "id=certificates,src=$certificates")
[[ -n $wheels ]] && arguments+=(--build-context "wheels=$wheels")
if [[ -n $wheels || -n $torch_backend_given ]]; then
    arguments+=(--build-arg "TORCH_BACKEND=$torch_backend")
fi
name=exitramp
[[ $target == service ]] || name=exitramp-$target

# Docker's format: OCI's has no health check.
buildah build --isolation chroot --format docker --layers --target "$target" --tag "localhost/$name:$version" \
    "${arguments[@]}" "$@" .
