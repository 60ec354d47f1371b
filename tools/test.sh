#!/usr/bin/env bash
# Sets up, then runs every check there is: style, types, the C tests (also with sanitizers, and for aarch64), pytest.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/test.sh [pytest options]

Runs tools/setup.sh, ruff, clang-format, and pytest last; beside it mypy and the tests of the C kernels
(tools/test_c.sh), with what pytest leaves of the cores, whose output is in build/beside-pytest.log. Options and paths go
to pytest: tools/test.sh tests/unit -k rotation
TEXT
}

case "${1:-}" in
    --help | -h) usage; exit 0 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh
PATH="$PWD/.venv/bin:$PATH"

step() {
    echo "==> $*"
}

step "ruff"
ruff check .
ruff format --check .

step "CUDA"
if command -v "${CUDACXX:-nvcc}" >/dev/null; then
    python -m llama_programs.cuda_check --quick
else
    echo "no nvcc here: the CUDA sources are not compiled, but for the host test of their functions"
fi

step "clang-format"
find ggml_patch bench \( -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) ! -name 'eoq-format.h' -print0 | xargs -0 clang-format --dry-run -Werror

step "Vulkan"
headers='#include <vulkan/vulkan.h>\n#include <spirv/unified1/spirv.hpp>\n'
if command -v glslc >/dev/null && command -v vulkaninfo >/dev/null &&
    printf "$headers" | c++ -fsyntax-only -x c++ - 2>/dev/null; then
    tools/setup.sh --vulkan --programs "eoq-lab llama-cli test-backend-ops"
else
    echo "no glslc, vulkaninfo or Vulkan headers here: Vulkan's shaders are neither compiled nor run"
fi

# Ahead of pytest, whose tests have a time limit.
for name in smollm2 minilm evaluation-text yardstick-0.5b; do
    step "model: $name"
    python -m material "$name"
done

step "mypy and C kernels, beside pytest"
mkdir -p build
log=build/beside-pytest.log
# pytest goes first. Linux shares the cores among sessions before it heeds what is nice inside of one.
setsid nice -n 19 bash -c '
    echo 19 2>/dev/null >/proc/self/autogroup || true
    echo "==> mypy"
    mypy && exec tools/test_c.sh' >"$log" 2>&1 &
beside=$!
trap 'kill -- "-$beside" 2>/dev/null || true' EXIT

step "pytest"
workers=$(nproc)
workers=$((workers < 8 ? workers : 8)) # each takes about 1 GB, and has an equal share of the cores
# sentencepiece's types warn once more when Python ends, which would follow pytest's summary
passed=true
python -W "ignore:builtin type swig:DeprecationWarning" -m pytest --numprocesses "$workers" --dist loadfile "$@" ||
    passed=false
if ! wait "$beside"; then
    trap - EXIT
    cat "$log"
    echo "error: mypy or the C kernels failed, as said above ($log)" >&2
    exit 1
fi
trap - EXIT
$passed
