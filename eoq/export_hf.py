"""Write a folder of EOQ codes for Hugging Face's transformers: from a model, or from the GGUF that was made of it."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eoq.common_options import MODEL_HELP, add_llama_bin, add_source_options, given, source_access
from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq export-hf models/SmolLM2-135M smollm2-eoq5 --rtn
  eoq export-hf models/SmolLM2-135M smollm2-eoq5 --stats smollm2.stats
  eoq export-hf models/SmolLM2-135M smollm2-eoq4t --from smollm2-EOQ4T.gguf
"""

DEFAULT_BITS = 5


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP.replace("GGUF file (the first of its splits), ", ""))
    add("output", metavar="OUT_DIR", type=Path, help="folder to write; it must be new, or empty")
    made = parser.add_mutually_exclusive_group()
    made.add_argument("--bits", type=int, metavar="N", help=f"bits of scalar types, 2 to 6 (default: {DEFAULT_BITS})")
    made.add_argument("--type", metavar="TYPE", help="eoq2 … eoq6, eoq2t … eoq5t (default: by --bits)")
    made.add_argument(
        "--from",
        dest="gguf",
        type=Path,
        metavar="OUT.gguf",
        help="take the codes of this GGUF, which eoq convert has made of the same model (default: make one meanwhile)",
    )
    add("--rtn", action="store_true", help="round to nearest, without calibration: fast, and much worse")
    add(
        "--stats",
        type=Path,
        metavar="FILE",
        help="use these statistics; if there is no such file, calibrate and keep the statistics in it",
    )
    add(
        "--floats",
        action="store_true",
        help="write the floats that the codes stand for, in the dtype of the model, for programs that know no EOQ",
    )
    add("--max-shard-size", metavar="SIZE", help="of tensors in a file, such as 2GB (default: 5GB)")
    add_source_options(parser, beside="the output")
    add_llama_bin(parser)
    return parser


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = make_parser(prog)
    arguments = parser.parse_args(words)
    if arguments.gguf and (arguments.rtn or arguments.stats):
        parser.error("--from has codes already; leave --rtn and --stats out")
    if arguments.rtn and arguments.stats:
        parser.error("--rtn uses no statistics; leave --stats out")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    from converter import CalibrationOptions, ConversionOptions, RoundingOptions, TypeOptions
    from converter.errors import OptionError
    from converter.report.display import ConversionDisplay
    from converter.sizes import parse_size
    from eoq_formats.types import BITS
    from hf_export import ExportOptions, export
    from output_files.sizes import size_text

    bits = DEFAULT_BITS if arguments.bits is None else arguments.bits
    if bits not in BITS:
        raise OptionError(f"--bits must be one of {', '.join(map(str, BITS))}, not {bits}")
    size = None if arguments.max_shard_size is None else parse_size(arguments.max_shard_size, "--max-shard-size")
    conversion = ConversionOptions(
        types=TypeOptions(type=arguments.type or f"eoq{bits}"),
        rounding=RoundingOptions(method="nearest", awq=False) if arguments.rtn else RoundingOptions(),
        statistics=arguments.stats,
        calibration=CalibrationOptions(llama_bin=arguments.llama_bin),
        source=source_access(arguments),
        **given(threads=arguments.threads),
    )
    options = ExportOptions(conversion, arguments.gguf, floats=arguments.floats, **given(shard_bytes=size))
    with ConversionDisplay() as display:
        exported = export(arguments.model, arguments.output, options, display)
    for note in exported.notes:
        print(f"note: {note}")
    counts = Counter(t.name.lower() for t in exported.types.values())
    types = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    kept = "in the floats of codes" if arguments.floats else "in codes"
    print(f"{exported.folder}: {len(exported.types)} layers {kept} ({types}), {size_text(exported.nbytes)} in all")


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    return run_tool(run, parse_arguments(words, prog))
