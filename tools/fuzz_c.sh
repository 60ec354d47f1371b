#!/usr/bin/env bash
# Builds libFuzzer's programs of the C code with the sanitizers, and runs them one after the other.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/fuzz_c.sh [options of libFuzzer]

Gives any bytes to what reads blocks of EOQ types (fuzz-blocks), and any files to llama.cpp's reader of GGUF and its
validation of rows (fuzz-gguf). The first inputs are written by Python; what reaches new code is kept in
build/fuzz/corpus, and what fails in build/fuzz. By default each runs for 6 seconds. A long run:

tools/fuzz_c.sh -runs=1000000
TEXT
}

case "${1:-}" in
    --help | -h) usage; exit 0 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."

probe=$(mktemp -d)
trap 'rm -r "$probe"' EXIT
echo 'int LLVMFuzzerTestOneInput(const void * data, unsigned long size) { return data && size ? 0 : 0; }' >"$probe/probe.c"
if ! clang -fsanitize=fuzzer,address "$probe/probe.c" -o "$probe/probe" 2>/dev/null || ! command -v clang++ >/dev/null; then
    echo "==> C fuzzing: SKIPPED, for there is no clang with libFuzzer (Debian: apt-get install clang libclang-rt-dev)"
    exit 0
fi

python=.venv/bin/python
[[ -x $python ]] || { echo "error: .venv is not there; run tools/setup.sh" >&2; exit 1; }
bin=$("$python" -m llama_programs.setup --programs llama-check-gguf)
build=build/fuzz
mkdir -p "$build"
cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DEOQ_TESTS=OFF -DEOQ_FUZZ=ON -DEOQ_SANITIZE=address,undefined,float-cast-overflow,fuzzer-no-link \
    -DEOQ_LLAMA_CPP="${bin%/build/bin}" >/dev/null
cmake --build "$build" --parallel "$(nproc)" --target fuzz-blocks fuzz-gguf >"$build/build.log" 2>&1 || {
    cat "$build/build.log"
    exit 1
}
"$python" -m tests.attacks.seeds_for_c "$build/seeds"
for name in blocks gguf; do
    echo "==> C fuzzing: $name"
    mkdir -p "$build/corpus/$name"
    # what ggml prints is kept off the terminal, what libFuzzer prints is not
    "$build/ggml_patch/tests/fuzz/fuzz-$name" -max_total_time="$([[ $# -eq 0 ]] && echo 6 || echo 0)" -max_len=4096 \
        -rss_limit_mb=1024 -close_fd_mask=3 -print_final_stats=1 -artifact_prefix="$build/" "$@" \
        "$build/corpus/$name" "$build/seeds/$name" >"$build/$name.log" 2>&1 || {
        cat "$build/$name.log"
        exit 1
    }
    grep -E "^(Done|stat::(number|average|peak))" "$build/$name.log"
done
