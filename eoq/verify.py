"""Verify a GGUF file with EOQ types: structure, blocks, metadata, checksums, and errors against its source."""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from eoq.common_options import add_llama_bin, add_source_options, source_access
from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq verify model-EOQ4.gguf
  eoq verify model-EOQ4.gguf --against model-F16.gguf --json verified.json
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", metavar="FILE.gguf", type=Path, help="the file to verify (of splits, the first)")
    add(
        "--against",
        metavar="MODEL",
        help="also compare weights with the GGUF file, Hugging Face folder or model of the hub that it was made from",
    )
    add("--json", metavar="OUT.json", type=Path, help="also write the results there")
    add_source_options(parser, beside="the file")
    add_llama_bin(parser)
    return parser


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = make_parser(prog)
    arguments = parser.parse_args(words)
    if arguments.revision is not None and arguments.against is None:
        parser.error("--revision is of the model that --against names")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    from converter.ingest import local_path, named_model, open_model
    from converter.options import check_threads
    from gguf_files.source import open_gguf
    from inspection.display import shown_progress
    from inspection.verify import shown_to_llama_cpp, verify
    from output_files.claim import claimed
    from output_files.target import check_outputs
    from output_files.whole import write_whole
    from terminal.cores import available_cores

    threads = available_cores() if arguments.threads is None else arguments.threads
    check_threads(threads)
    named = None if arguments.against is None else named_model(arguments.against, arguments.revision)
    file = open_gguf(arguments.file)
    with ExitStack() as stack:
        stack.enter_context(claimed([arguments.json], [*file.paths, named if isinstance(named, Path) else None]))
        progress = stack.enter_context(shown_progress())
        source = None
        if named is not None:
            access = source_access(arguments, allow_requantize=True)
            # the file itself is no output, so it may be the source, or lie in the source's folder
            beside = arguments.file.with_name(f"{arguments.file.name}.source")
            model = local_path(named, access, beside.absolute().parent, progress)
            check_outputs([arguments.json], [model])
            source = stack.enter_context(open_model(model, beside, access, threads, progress))
        verification = verify(file, threads, progress, source)
        verification = shown_to_llama_cpp(verification, arguments.llama_bin, threads)
        if arguments.json:
            text = json.dumps(verification.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
            write_whole(arguments.json, text + "\n")
    for line in verification.lines():
        print(line)
    print(verification.summary())


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    return run_tool(run, parse_arguments(words, prog))
