"""Convert a model to a GGUF file with EOQ tensor types."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eoq.common_options import (
    add_calibration_options,
    add_log_json,
    add_source_options,
    calibration_options,
    given,
    source_access,
)
from terminal.event_log import EventLog
from terminal.text import say
from terminal.tool import run_tool

if TYPE_CHECKING:
    from gguf_files.output import SplitLimit

EXAMPLES = """\
examples:
  convert_eoq.py models/SmolLM2-135M smollm2-eoq4.gguf
  convert_eoq.py model-f16.gguf model-eoq3.gguf --type eoq3 --tensor-type 'ffn_down=eoq4'
  convert_eoq.py model-f16.gguf model-eoq4.gguf --calib my-text.txt --stats model.stats.gguf
  convert_eoq.py model-f16.gguf model-eoq4.gguf --imatrix imatrix.gguf
  convert_eoq.py model-f16.gguf model-ewq.gguf --plan plan.json --dry-run
"""

_AWQ = {"auto": None, "on": True, "off": False}
_CONTEXT = 4096
"""Tokens that memory is counted for where the model does not say how many it was trained on."""


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="Hugging Face model folder, or GGUF file (the first of its splits)")
    add("output", metavar="OUT.gguf", type=Path, help="file to write; an existing one is replaced when all is done")
    add("--type", default="eoq4", metavar="TYPE", help="eoq2 … eoq6, eoq2t … eoq5t (default: eoq4)")
    add("--output-type", metavar="TYPE", help="type of output.weight, or of tied token embeddings (default: eoq6)")
    add("--token-embd-type", metavar="TYPE", help="type of the token embeddings (default: as the other weights)")
    add(
        "--tensor-type",
        metavar="REGEX=TYPE",
        action="append",
        default=[],
        help="type of the weights whose GGUF name the expression is found in; the first match wins; may be repeated",
    )
    add("--plan", type=Path, metavar="FILE", help="types by a plan of plan_eoq.py, or your own, in JSON or TOML")
    add("--dry-run", action="store_true", help="print types, sizes and memory, and write nothing")
    method = parser.add_argument_group("calibration")
    how = method.add_argument
    how("--rtn", action="store_true", help="round to nearest, without calibration: fast, and much worse")
    how(
        "--rounding",
        choices=("feedback", "nearest"),
        default="feedback",
        help="feedback (default): each column makes up for the errors of those before; nearest: each weight by itself",
    )
    how(
        "--awq",
        choices=tuple(_AWQ),
        default="auto",
        help="scale channels before rounding; auto: at two bits, and without error feedback (default: auto)",
    )
    how(
        "--stats",
        metavar="FILE",
        type=Path,
        help="use these statistics; if there is no such file, calibrate and keep the statistics in it",
    )
    how("--imatrix", metavar="FILE", type=Path, help="use llama.cpp's imatrix in place of a calibration; less precise")
    how("--allow-partial-stats", action="store_true", help="accept an imatrix that lacks over a tenth of the weights")
    add_calibration_options(method)
    how("--device", metavar="DEVICE", help="PyTorch device to round on: cpu (default), cuda, cuda:1, mps")
    how("--damping", type=float, metavar="X", help="of error feedback, relative to the inputs' energy (default: 0.02)")
    how(
        "--shrinkage",
        type=float,
        metavar="X",
        help="share of the inputs' correlations not to rely on (default: 0.5 up to 52,000 tokens, 0.2 from 131,072 on)",
    )
    how("--effort", type=int, metavar="N", help="how widely to search eoq2t to eoq5t, 1 (fast) to 3 (default: 2)")
    add("--allow-requantize", action="store_true", help="accept a model that is quantised already")
    add("--resume", action="store_true", help="go on with a conversion to OUT.gguf that broke off, if there is one")
    add(
        "--split-max-size",
        metavar="SIZE",
        help="write splits of that many bytes of tensors at most, such as 8G or 500M",
    )
    add("--split-max-tensors", metavar="N", type=int, help="write splits of that many tensors at most")
    add(
        "--max-memory",
        metavar="SIZE",
        help="most memory to take, such as 12G: what cannot keep to it is refused (default: no bound)",
    )
    add_source_options(parser, beside="the output")
    ray = "round on a Ray cluster whose nodes see the same files: HOST:PORT, or auto for that of this machine"
    add("--ray", metavar="ADDRESS", help=f"{ray} (default: on this machine alone)")
    add("--table", action="store_true", help="print a table of errors by tensor at the end")
    add("--quiet", action="store_true", help="print nothing but errors")
    add_log_json(parser)
    arguments = parser.parse_args(words)
    if arguments.stats and arguments.imatrix:
        parser.error("--stats and --imatrix are two sources of the same statistics; give one")
    if arguments.resume and arguments.dry_run:
        parser.error("--dry-run begins nothing that could be gone on with; leave --resume out")
    if arguments.rtn and (arguments.stats or arguments.imatrix or arguments.calib):
        parser.error("--rtn uses no statistics; leave --stats, --imatrix and --calib out")
    return arguments


def run(arguments: argparse.Namespace, log: EventLog) -> None:
    from converter import ConversionOptions, ConversionProgress, RoundingOptions, TypeOptions, convert, dry_run
    from converter.errors import StatisticsError
    from converter.plan import read_plan_file
    from converter.plan.tables import size_lines, split_lines, tensor_lines
    from converter.report import report_path
    from converter.report.display import ConversionDisplay
    from converter.report.logged_conversion import LoggedConversion, totals
    from converter.sizes import parse_size
    from output_files.target import check_outputs

    log.open([arguments.output, report_path(arguments.output)])
    if arguments.imatrix and not arguments.imatrix.exists():
        raise StatisticsError(f"the imatrix {arguments.imatrix} does not exist; make it with llama-imatrix")
    check_outputs([arguments.output, report_path(arguments.output)], [arguments.plan])
    options = ConversionOptions(
        types=TypeOptions(
            arguments.type, arguments.output_type, arguments.token_embd_type, tuple(arguments.tensor_type)
        ),
        rounding=RoundingOptions(
            method="nearest" if arguments.rtn else arguments.rounding,
            awq=False if arguments.rtn else _AWQ[arguments.awq],
            **given(
                damping=arguments.damping,
                shrinkage=arguments.shrinkage,
                effort=arguments.effort,
                device=arguments.device,
            ),
        ),
        statistics=arguments.stats or arguments.imatrix,
        allow_partial_statistics=arguments.allow_partial_stats,
        calibration=calibration_options(arguments),
        source=source_access(arguments, allow_requantize=arguments.allow_requantize),
        ray=arguments.ray,
        split=_split_limit(arguments),
        resume=arguments.resume,
        max_memory=None if arguments.max_memory is None else parse_size(arguments.max_memory, "--max-memory"),
        **given(threads=arguments.threads),
    )
    proposals = read_plan_file(arguments.plan) if arguments.plan else None
    if arguments.dry_run:
        progress = LoggedConversion(log, ConversionProgress())
        planned = dry_run(arguments.model, arguments.output, options, progress, proposals)
        splits = split_lines(planned, arguments.output, options.split) if options.split else []
        say([*tensor_lines(planned), "", *size_lines(planned, planned.trained_context or _CONTEXT), *splits])
        log.ended(bytes=planned.file_bytes)
        return
    if arguments.quiet:
        progress = LoggedConversion(log, ConversionProgress())
        log.ended(**totals(convert(arguments.model, arguments.output, options, progress, proposals)))
        return
    with ConversionDisplay() as display:
        report = convert(arguments.model, arguments.output, options, LoggedConversion(log, display), proposals)
    display.summary(report)
    if arguments.table:
        display.table(report)
    log.ended(**totals(report))


def _split_limit(arguments: argparse.Namespace) -> "SplitLimit | None":
    """Raises OptionError."""
    from converter.errors import OptionError
    from converter.sizes import parse_size
    from gguf_files.output import SplitLimit

    size, tensors = arguments.split_max_size, arguments.split_max_tensors
    if size is None and tensors is None:
        return None
    nbytes = None if size is None else parse_size(size, "--split-max-size")
    if tensors is not None and tensors < 1:
        raise OptionError(f"--split-max-tensors must be at least 1, not {tensors}")
    return SplitLimit(nbytes, tensors)


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse_arguments(words, prog)
    log = EventLog(arguments.log_json, "convert")
    return run_tool(lambda arguments: run(arguments, log), arguments, log=log)
