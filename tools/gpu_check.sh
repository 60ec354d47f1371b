#!/usr/bin/env bash
# Builds llama.cpp with EOQ for this machine's GPU, and lets the GPU prove that it computes right, and how fast.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/gpu_check.sh [options]

Sets up, builds the patched llama.cpp with CUDA (or Vulkan) for this machine's GPU, then runs the kernel laboratory, llama.cpp's
test-backend-ops for all EOQ types, compares the GPU's logits with the CPU's on a small model, and races EOQ against
llama.cpp's own types. All results go into one JSON. Exit status 1: a step did not pass.

options:
  --json FILE     where the results go (default: gpu-check.json)
  --model FILE    F16 GGUF to compare CPU and GPU with (default: SmolLM2-135M-Instruct, from PyPI)
  --arch ARCH     compute capability to build CUDA for (default: this machine's)
  --device NAME   as ggml names it: CUDA0 (default), Vulkan0, ...; the build is the one that the name asks for, and CPU
                  takes the same steps with the build for the CPU
  --quick         small sizes, to see that all steps can be taken
  --help          print this text
TEXT
}

json=gpu-check.json model="" arch=native device=CUDA0 more=()
while [ $# -gt 0 ]; do
    case "$1" in
        --json) json=${2:?--json needs a file}; shift ;;
        --model) model=${2:?--model needs a file}; shift ;;
        --arch) arch=${2:?--arch needs a compute capability}; shift ;;
        --device) device=${2:?--device needs a name}; shift ;;
        --quick) more+=(--quick) ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; echo "error: unknown option $1" >&2; exit 1 ;;
    esac
    shift
done
json=$(realpath -m "$json")
if [ -n "$model" ]; then model=$(realpath "$model"); fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "$device" in
    CPU) build=() ;;
    Vulkan*) build=(--vulkan) ;;
    *) build=("--cuda=$arch") ;;
esac
bin=$(tools/setup.sh --print-bin "${build[@]}")
python=.venv/bin/python
if [ -z "$model" ]; then model=$("$python" -m material smollm2); fi
text=$("$python" -m material evaluation-text)
exec "$python" -m bench.gpu.check --llama-bin "$bin" --model "$model" --text "$text" --device "$device" \
    --json "$json" "${more[@]}"
