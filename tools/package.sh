#!/usr/bin/env bash
# Packs llama.cpp's patched programs for machines without compilers: docs/install.md.
set -euo pipefail

output=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case " $* " in
    *" --help "* | *" -h "* | *" --print-name "*) ;;
    *) tools/setup.sh --python-only ;;
esac
exec env -C "$output" PYTHONPATH="$PWD" "$PWD/.venv/bin/python" -m llama_programs.package "$@"
