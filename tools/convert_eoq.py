#!/usr/bin/env python3
"""Convert a model to a GGUF file with EOQ tensor types."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

EXAMPLES = """\
examples:
  convert_eoq.py models/SmolLM2-135M smollm2-eoq4.gguf
  convert_eoq.py model-f16.gguf model-eoq3.gguf --type eoq3 --tensor-type 'ffn_down=eoq4'
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="Hugging Face model folder, or GGUF file (the first of its splits)")
    add("output", metavar="OUT.gguf", type=Path, help="file to write; an existing one is replaced when all is done")
    add("--type", default="eoq4", metavar="TYPE", help="eoq2 … eoq6, or eoq2_64 … eoq6_64 (default: eoq4)")
    add("--rtn", action="store_true", help="round to nearest, without calibration (so far the only way)")
    add("--output-type", metavar="TYPE", help="type of output.weight, or of tied token embeddings (default: eoq6)")
    add("--token-embd-type", metavar="TYPE", help="type of the token embeddings (default: as the other weights)")
    add(
        "--tensor-type",
        metavar="REGEX=TYPE",
        action="append",
        default=[],
        help="type of the weights whose GGUF name the expression is found in; the first match wins; may be repeated",
    )
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--allow-requantize", action="store_true", help="accept a model that is quantised already")
    add("--llama-dir", type=Path, metavar="DIR", help="llama.cpp tree to convert Hugging Face folders with")
    add("--work-dir", type=Path, metavar="DIR", help="where the intermediate GGUF goes (default: beside the output)")
    add("--quiet", action="store_true", help="print nothing but errors")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    from converter import ConversionOptions, Progress, convert
    from converter.display import ConversionDisplay
    from converter.options import available_cores

    options = ConversionOptions(
        type=arguments.type,
        output_type=arguments.output_type,
        token_embd_type=arguments.token_embd_type,
        tensor_types=tuple(arguments.tensor_type),
        threads=available_cores() if arguments.threads is None else arguments.threads,
        allow_requantize=arguments.allow_requantize,
        llama_dir=arguments.llama_dir,
        work_dir=arguments.work_dir,
    )
    if arguments.quiet:
        convert(arguments.model, arguments.output, options, Progress())
        return
    with ConversionDisplay() as display:
        report = convert(arguments.model, arguments.output, options, display)
    display.summary(report)


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by way of all clean-up code."""
    raise SystemExit(128 + number)


def main() -> None:
    from eoq_formats.errors import EoqError

    arguments = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        run(arguments)
    except (EoqError, OSError) as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
