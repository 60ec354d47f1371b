#!/usr/bin/env bash
# Unpacks a tar of tools/package.sh in a clean folder and lets its programs answer from MODEL, with an empty environment.
# usage: containers/check_tar.sh TAR MODEL.gguf
set -euo pipefail

tar=$(realpath -- "${1:?name the tar}") model=$(realpath -- "${2:?name a model}")
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

(cd "$(dirname "$tar")" && sha256sum --check --quiet "$(basename "$tar").sha256")
tar xf "$tar"
bin=$(echo "$folder"/*/bin)
clean() {
    env -i PATH=/usr/bin:/bin HOME="$folder" "$@"
}

for program in "$bin"/llama-* "$bin"/ggml-rpc-server; do
    if clean ldd "$program" | grep "not found"; then
        echo "error: $program does not find all libraries" >&2
        exit 1
    fi
done
echo "==> llama-cli"
clean "$bin/llama-cli" -m "$model" -p "The capital of France is" --single-turn --simple-io --temp 0 -n 24 \
    </dev/null 2>cli.log | sed -n '/^> /,/^\[ Prompt/p'
[ "${PIPESTATUS[0]}" = 0 ] || { cat cli.log >&2; exit 1; }
grep -m1 "load_backend: loaded CPU backend" cli.log || true

echo "==> llama-server"
clean "$bin/llama-server" -m "$model" --host 127.0.0.1 --port 0 -c 512 >server.log 2>&1 &
server=$!
for _ in $(seq 120); do
    port=$(sed -n 's|.*listening on http://127.0.0.1:\([0-9]*\).*|\1|p' server.log | head -n 1)
    [ -z "$port" ] || break
    kill -0 "$server" 2>/dev/null || { cat server.log >&2; exit 1; }
    sleep 1
done
body='{"prompt": "The capital of France is", "n_predict": 8, "temperature": 0}'
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'POST /completion HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    ${#body} "$body" >&3
answer=$(cat <&3)
grep -o '"content":"[^"]*"' <<<"$answer" || { echo "error: the server does not answer: $answer" >&2; exit 1; }
echo "==> the tar is good"
