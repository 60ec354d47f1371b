#!/usr/bin/env bash
# Sets everything up: the Python environment in .venv, and the patched llama.cpp in the cache folder.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/setup.sh [options]

Makes .venv with the packages of constraints.txt, then fetches, patches and builds the pinned llama.cpp in
$EOQ_CACHE (default ~/.cache/eoq). What is finished already is skipped.

options:
  --print-bin      print only the folder of the built llama.cpp programs on standard output
  --python-only    make .venv, leave llama.cpp alone
  --aarch64        only look for the cross compiler and the emulator of the NEON tests; in CI (CI=true, root, Debian)
                   install what is missing
  --python EXE     the Python to make .venv with (3.11 to 3.14; default: the first one found)
  --cuda[=ARCH]    build llama.cpp with CUDA, in a folder of its own; for this machine's GPU, or for the compute
                   capabilities that CMake would take: --cuda=86, --cuda='86;89'
  --vulkan         build llama.cpp with Vulkan, for GPUs of all makers, in a folder of its own
                   (Debian: glslc libvulkan-dev spirv-headers)
  --programs NAMES build these programs of llama.cpp alone, such as "llama-cli llama-quantize"
  --jobs N         parallel compile jobs (default: one a core)
  --tar FILE       build nothing: unpack the programs of this tar of tools/package.sh, whose .sha256 lies beside it
  --help           print this text
TEXT
}

fail() {
    echo "error: $*" >&2
    exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
print_bin=false python_only=false aarch64=false python="" build_options=()

while [ $# -gt 0 ]; do
    case "$1" in
        --print-bin) print_bin=true ;;
        --python-only) python_only=true ;;
        --aarch64) aarch64=true ;;
        --python) python=${2:?--python needs the path of a Python}; shift ;;
        --cuda) build_options+=(--cuda native) ;;
        --cuda=?*) build_options+=(--cuda "${1#--cuda=}") ;;
        --vulkan) build_options+=(--vulkan) ;;
        --programs) build_options+=(--programs ${2:?--programs needs names}); shift ;;
        --jobs) build_options+=(--jobs "${2:?--jobs needs a number}"); shift ;;
        --tar) build_options+=(--tar "$(realpath -- "${2:?--tar needs a file}")"); shift ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; fail "unknown option $1" ;;
    esac
    shift
done

serves() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null
}

find_python() {
    if [ -n "$python" ]; then
        serves "$python" || fail "$python is not Python 3.11 to 3.14"
        return
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if serves "$python"; then return; fi
    done
    fail "Python 3.11 to 3.14 is needed (Debian: apt-get install python3 python3-venv); name one with --python"
}

# a virtual environment is bound to its path: one that was moved or copied does not count; without its pyvenv.cfg its
# Python and pip are those of the whole machine
venv_works() {
    [ -f "$venv/pyvenv.cfg" ] && [ -x "$venv/bin/python" ] && serves "$venv/bin/python" &&
        head -n 1 "$venv/bin/pip" 2>/dev/null | grep -qF "$venv/"
}

make_venv() {
    local stamp="$venv/eoq-stamp" wanted
    wanted=$(cat "$root/constraints.txt" "$root/pyproject.toml" | sha256sum)
    if venv_works && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        echo "==> Python: .venv is up to date" >&2
        return
    fi
    if ! venv_works; then
        if [ -L "$venv" ]; then
            fail "$venv is a link to $(readlink "$venv"), the environment of another folder; remove the link"
        fi
        find_python
        echo "==> Python: making .venv with $("$python" --version)" >&2
        "$python" -m venv --clear "$venv" ||
            fail "$python cannot make a virtual environment (Debian: apt-get install python3-venv)"
    fi
    rm -f "$stamp"
    echo "==> Python: installing the packages of constraints.txt (about 400 MB, a few minutes)" >&2
    (cd "$root" && PIP_CONSTRAINT=constraints.txt "$venv/bin/pip" install -qq --disable-pip-version-check -e ".[dev]") ||
        fail "pip could not install the packages; see its message above"
    echo "$wanted" >"$stamp"
}

aarch64_works() {
    command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null &&
        [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ]
}

find_aarch64() {
    local packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
    if aarch64_works; then return; fi
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
        echo "==> aarch64: installing ${packages[*]} (about 250 MB on disk)" >&2
        { apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${packages[@]}"; } >/dev/null ||
            fail "apt-get could not install them; see its message above"
    fi
    aarch64_works || fail "no cross compiler and emulator for aarch64 (Debian: apt-get install ${packages[*]})"
}

if $aarch64; then
    find_aarch64
    exit
fi
if [ -n "$python" ]; then find_python; fi

# one set-up of this tree at a time
exec 9<"${BASH_SOURCE[0]}"
flock -n 9 || { echo "==> waiting for another set-up of this folder" >&2; flock 9; }

make_venv
flock -u 9

if ! $python_only; then
    bin=$(cd "$root" && "$venv/bin/python" -m llama_programs.setup "${build_options[@]}")
    if $print_bin; then
        echo "$bin"
    else
        echo "==> ready: $bin" >&2
    fi
fi
