#!/bin/sh
# Runs `eoq WORDS…` in a container, or one of llama.cpp's programs by its name.
set -eu

# a volume that is older than the image, or not made of it, has not its programs
log=$(mktemp)
bin=$(/opt/eoq/bin/eoq setup --tar /opt/package/*.tar.xz 2>"$log") || {
    cat "$log" >&2
    exit 1
}
rm "$log"
if [ -d /opt/package/cuda ]; then bin=/opt/package/cuda; fi
case "${1:-}" in
    llama-* | ggml-rpc-server)
        program=$1
        shift
        exec "$bin/$program" "$@"
        ;;
esac
exec /opt/eoq/bin/eoq "$@"
