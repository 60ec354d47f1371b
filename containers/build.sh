#!/bin/sh
# Stage 1 of the images, run as root in a folder with EOQ's sources: compiles llama.cpp's programs into PACKAGE.
# usage: containers/build.sh PACKAGE [CUDA_ARCHITECTURES]
set -eu

package=$1
cuda=${2:-}
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates cmake g++ ninja-build python3-venv >/dev/null
rm -rf /var/lib/apt/lists/*

# fetching and building need nothing of Python's packages but pip
python3 -m venv /tmp/venv
export PYTHONPATH="$PWD" EOQ_CACHE=/tmp/cache
mkdir -p "$package"
/tmp/venv/bin/python -m llama_programs.package --output "$package"
if [ -n "$cuda" ]; then
    bin=$(/tmp/venv/bin/python -m llama_programs.setup --cuda "$cuda" \
        --programs llama-cli llama-server llama-quantize llama-perplexity llama-imatrix llama-moments llama-check-gguf \
        llama-bench)
    cp -r "$bin" "$package/cuda"
fi
