#!/usr/bin/env bash
# Runs what the Dockerfile runs, where there is no Docker: in a Debian of debootstrap's, as root.
# usage: containers/check.sh FOLDER MODEL.gguf [TAR]     a TAR spares the minutes of building
set -euo pipefail

root=${1:?name an empty folder on a disk with 5 GB} model=${2:?name a model} tar=${3:-}
root=$(realpath -m -- "$root") model=$(realpath -- "$model")
[ -z "$tar" ] || tar=$(realpath -- "$tar")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
enter() {
    local folder=$1
    shift
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${pip[@]}" unshare --mount --pid --fork sh -c '
        mount --bind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$folder" "$@"
}
# settings that pip has here hold there too
mapfile -t pip < <(env | grep '^PIP_' || true)
[ -z "${PIP_CERT:-}" ] || pip+=(PIP_CERT=/etc/pip-cert.pem)

for stage in build final; do
    [ -e "$root/$stage/etc/debian_version" ] || debootstrap --variant=minbase bookworm "$root/$stage" >/dev/null
    cp /etc/resolv.conf /etc/hosts "$root/$stage/etc/"
    [ -z "${PIP_CERT:-}" ] || cp "$PIP_CERT" "$root/$stage/etc/pip-cert.pem"
    mkdir -p "$root/$stage/eoq" "$root/$stage/opt/package"
    git ls-files -z | tar --null --files-from=- -cf - | tar xf - -C "$root/$stage/eoq"
done
if [ -n "$tar" ]; then
    cp "$tar" "$tar.sha256" "$root/final/opt/package/"
else
    enter "$root/build" sh -c "cd /eoq && containers/build.sh /opt/package"
    cp "$root"/build/opt/package/* "$root/final/opt/package/"
fi
enter "$root/final" sh -c "cd /eoq && containers/install.sh /opt/package"
rm -r "$root/final/eoq"
cp "$model" "$root/final/work/model.gguf"
as_user() {
    enter "$root/final" setpriv --reuid eoq --regid eoq --clear-groups --no-new-privs \
        env EOQ_CACHE=/cache HOME=/cache sh -c 'cd /work && exec eoq-container "$@"' eoq-container "$@"
}
as_user convert model.gguf model-EOQ4T.gguf --type eoq4t --rtn --quiet
as_user verify model-EOQ4T.gguf
as_user llama-cli -m model-EOQ4T.gguf -p "The capital of France is" --single-turn --simple-io -n 16 </dev/null
