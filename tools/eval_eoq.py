#!/usr/bin/env python3
"""Compare GGUF files with the one they were made from: perplexity, KL divergence, size; on a text, in llama.cpp."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.command_line import run_to_the_end

EXAMPLES = """\
examples:
  eval_eoq.py --base model-F16.gguf --text news.txt model-EOQ4.gguf model-IQ4_XS.gguf
  eval_eoq.py --base model-F16.gguf --text news.txt model-*.gguf --json results.json --plot results.png
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("models", metavar="MODEL.gguf", type=Path, nargs="+", help="files to compare (of splits, the first)")
    add("--base", metavar="F16.gguf", type=Path, required=True, help="the model they were made from, not quantised")
    add("--text", metavar="FILE", type=Path, required=True, help="UTF-8 text, other than that of the calibration")
    add("--context", type=int, default=512, metavar="N", help="tokens a window; its second half counts (default: 512)")
    add("--chunks", type=int, metavar="N", help="windows at most (default: the whole text)")
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--gpu-layers", type=int, metavar="N", help="layers on the GPU (default: as llama.cpp decides)")
    add("--llama-bin", type=Path, metavar="DIR", help="folder of llama-perplexity (default: what tools/setup.sh built)")
    add("--json", type=Path, metavar="OUT.json", help="also write the results there")
    add("--plot", type=Path, metavar="OUT.png", help="also draw KL divergence over file size")
    logits = "where the base's log-probabilities lie meanwhile: 2 bytes a token scored and word of the vocabulary"
    add("--work-dir", type=Path, metavar="DIR", help=f"{logits} (default: the temporary folder)")
    add("--base-logits", type=Path, metavar="FILE", help="keep them in this file, and use it again when it fits")
    add("--quiet", action="store_true", help="print nothing but the table and errors")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    from converter.cores import available_cores
    from evaluation import EvaluationOptions, EvaluationProgress, evaluate
    from evaluation.display import EvaluationDisplay
    from evaluation.plot import plot
    from evaluation.report import as_json, check_target, setting, table

    options = EvaluationOptions(
        context=arguments.context,
        chunks=arguments.chunks,
        threads=available_cores() if arguments.threads is None else arguments.threads,
        gpu_layers=arguments.gpu_layers,
        llama_bin=arguments.llama_bin,
        work_dir=arguments.work_dir,
        base_logits=arguments.base_logits,
    )
    for target in (arguments.json, arguments.plot):
        check_target(target)
    task = (arguments.base, arguments.models, arguments.text, options)
    if arguments.quiet:
        evaluation = evaluate(*task, EvaluationProgress())
    else:
        with EvaluationDisplay() as display:
            evaluation = evaluate(*task, display)
    print(setting(evaluation), table(evaluation), sep="\n\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(evaluation), indent=2) + "\n")
    if arguments.plot:
        plot(evaluation, arguments.plot)


if __name__ == "__main__":
    run_to_the_end(run, parse_arguments())
