#!/usr/bin/env bash
# Builds and runs the tests of the C kernels: optimised, under sanitizers, for aarch64 where an emulator is; then fuzzing.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/test_c.sh

Tests the C kernels as this machine's compiler optimises them, as older machines run them, for aarch64 in QEMU where
tools/setup.sh --aarch64 finds it, and under the address and undefined behaviour sanitizers; then runs libFuzzer's
programs for 6 seconds each where clang is. tools/test.sh runs this beside pytest.
TEXT
}

case "${1:-}" in
    --help | -h) usage; exit 0 ;;
    ?*) usage >&2; echo "error: unknown option $1" >&2; exit 1 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -x .venv/bin/python ]] || { echo "error: .venv is not there; run tools/setup.sh" >&2; exit 1; }
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

c_tests sanitized "${sanitizers[@]}"
if [[ -n $avx2 ]]; then c_tests sanitized-x86-64-v3 "${other[@]}" -DCMAKE_C_FLAGS="$avx2" "${sanitizers[@]}"; fi
if [[ -n $vnni ]]; then c_tests sanitized-avx-vnni "${other[@]}" -DCMAKE_C_FLAGS="$vnni" "${sanitizers[@]}"; fi
tools/fuzz_c.sh
