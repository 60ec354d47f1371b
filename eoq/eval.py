"""Compare GGUF files with the one they were made from: perplexity, KL divergence, size; on a text, in llama.cpp."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from eoq.common_options import add_log_json
from terminal.event_log import EventLog
from terminal.text import say
from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq eval --base model-F16.gguf --text news.txt model-EOQ4.gguf model-IQ4_XS.gguf
  eoq eval --base model-F16.gguf --text news.txt model-*.gguf --json results.json --plot results.png
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("models", metavar="MODEL.gguf", type=Path, nargs="+", help="files to compare (of splits, the first)")
    add("--base", metavar="F16.gguf", type=Path, required=True, help="the model they were made from, not quantised")
    add("--text", metavar="FILE", type=Path, required=True, help="UTF-8 text, other than that of the calibration")
    add("--context", type=int, default=512, metavar="N", help="tokens a window; its second half counts (default: 512)")
    add("--chunks", type=int, metavar="N", help="windows at most (default: the whole text)")
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--gpu-layers", type=int, metavar="N", help="layers on the GPU (default: as llama.cpp decides)")
    add("--llama-bin", type=Path, metavar="DIR", help="folder of llama-perplexity (default: what eoq setup built)")
    add("--json", type=Path, metavar="OUT.json", help="also write the results there")
    add("--plot", type=Path, metavar="OUT.png", help="also draw KL divergence over file size")
    logits = "where the base's log-probabilities lie meanwhile: 2 bytes a token scored and word of the vocabulary"
    add("--work-dir", type=Path, metavar="DIR", help=f"{logits} (default: the temporary folder)")
    add("--base-logits", type=Path, metavar="FILE", help="keep them in this file, and use it again when it fits")
    add("--quiet", action="store_true", help="print nothing but the table and errors")
    add_log_json(parser)
    return parser


def run(arguments: argparse.Namespace, log: EventLog) -> None:
    from evaluation import EvaluationOptions, EvaluationProgress, evaluate
    from evaluation.base_logits import kept_files
    from evaluation.display import EvaluationDisplay
    from evaluation.logged import LoggedEvaluation
    from evaluation.plot import plot
    from evaluation.report import as_json, setting, table
    from output_files.claim import claimed
    from output_files.whole import write_whole
    from terminal.cores import available_cores

    log.open([arguments.json, arguments.plot])
    options = EvaluationOptions(
        context=arguments.context,
        chunks=arguments.chunks,
        threads=available_cores() if arguments.threads is None else arguments.threads,
        gpu_layers=arguments.gpu_layers,
        llama_bin=arguments.llama_bin,
        work_dir=arguments.work_dir,
        base_logits=arguments.base_logits,
    )
    outputs = [path for path in (arguments.json, arguments.plot) if path is not None]
    inputs = [arguments.base, *arguments.models, arguments.text, *kept_files(arguments.base_logits)]
    task = (arguments.base, arguments.models, arguments.text, options)
    with claimed(outputs, inputs):
        if arguments.quiet or log.takes_standard_error:
            evaluation = evaluate(*task, LoggedEvaluation(log, EvaluationProgress()), outputs)
        else:
            with EvaluationDisplay() as display:
                evaluation = evaluate(*task, LoggedEvaluation(log, display), outputs)
        say([setting(evaluation), "", *table(evaluation).splitlines()])
        if arguments.json:
            write_whole(arguments.json, json.dumps(as_json(evaluation), indent=2) + "\n")
        if arguments.plot:
            plot(evaluation, arguments.plot)
    log.ended(report=arguments.json, chunks=evaluation.chunks, scored_tokens=evaluation.scored)


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = make_parser(prog).parse_args(words)
    log = EventLog(arguments.log_json, "eval")
    return run_tool(lambda arguments: run(arguments, log), arguments, log=log)
