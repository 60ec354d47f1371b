#!/usr/bin/env bash
# Sets up, then runs every check there is: style, types, the C tests (also with sanitizers, and for aarch64), pytest.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/test.sh [pytest options]

Runs tools/setup.sh, ruff, mypy, clang-format, the C tests (optimised, under the address and undefined behaviour
sanitizers, and for aarch64 in QEMU), libFuzzer's programs for 6 seconds each where clang is, and pytest last. Options
and paths go to pytest: tools/test.sh tests/unit -k rotation
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

# builds the C kernels in build/NAME with the given CMake options, and runs their tests
c_tests() {
    local name=$1
    shift
    step "C kernels: $name"
    cmake -S . -B "build/$name" "$@" >/dev/null
    cmake --build "build/$name" --parallel "$(nproc)" >"build/$name/build.log" 2>&1 || {
        cat "build/$name/build.log"
        exit 1
    }
    ctest --test-dir "build/$name" --output-on-failure --parallel "$(nproc)"
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

other=(-DEOQ_NATIVE=OFF -DEOQ_GPU_TESTS=OFF)
sanitizers=(-DEOQ_SANITIZE=address,undefined,float-cast-overflow -DCMAKE_BUILD_TYPE=Debug)
# what a newer machine's native build leaves out
avx2= vnni=
if grep -qw avx2 /proc/cpuinfo 2>/dev/null; then
    avx2="-march=x86-64-v3"
fi
# the kernels of AVX-VNNI, in whichever encoding this machine knows
if grep -qw avx512_vnni /proc/cpuinfo 2>/dev/null; then
    vnni="-march=x86-64-v3 -mavx512vl -mavx512vnni"
elif grep -qw avx_vnni /proc/cpuinfo 2>/dev/null; then
    vnni="-march=x86-64-v3 -mavxvnni"
fi

# beside the other builds: much of it is one thread
slow_checks() {
    step "mypy"
    mypy
    c_tests sanitized "${sanitizers[@]}"
    if [[ -n $avx2 ]]; then c_tests sanitized-x86-64-v3 "${other[@]}" -DCMAKE_C_FLAGS="$avx2" "${sanitizers[@]}"; fi
    if [[ -n $vnni ]]; then c_tests sanitized-avx-vnni "${other[@]}" -DCMAKE_C_FLAGS="$vnni" "${sanitizers[@]}"; fi
    tools/fuzz_c.sh
}

mkdir -p build
slow_checks >build/slow-checks.log 2>&1 &
slow=$!
trap 'kill "$slow" 2>/dev/null || true' EXIT

c_tests native
c_tests generic "${other[@]}"
if [[ -n $avx2 ]]; then c_tests x86-64-v3 "${other[@]}" -DCMAKE_C_FLAGS="$avx2"; fi
if [[ -n $vnni ]]; then c_tests avx-vnni "${other[@]}" -DCMAKE_C_FLAGS="$vnni"; fi

# an aarch64 machine has tested its own NEON kernels above
if [[ $(uname -m) != @(aarch64|arm64) ]]; then
    if tools/setup.sh --aarch64; then
        for arch in armv8-a armv8.2-a+dotprod armv8.6-a+i8mm; do
            c_tests "$arch" -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" -DCMAKE_C_FLAGS="-march=$arch"
        done
    else
        step "C kernels: NEON tests SKIPPED, for what the line above says"
    fi
fi

failed=false
wait "$slow" || failed=true
trap - EXIT
cat build/slow-checks.log
if $failed; then exit 1; fi

# ahead of pytest, whose tests have a time limit
for name in smollm2 minilm evaluation-text yardstick-0.5b; do
    step "model: $name"
    python -m material "$name"
done

step "pytest"
# sentencepiece's types warn once more when Python ends, which would follow pytest's summary
exec python -W "ignore:builtin type swig:DeprecationWarning" -m pytest "$@"
