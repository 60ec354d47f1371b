"""Fetch, patch and build the pinned llama.cpp in the cache, or unpack its programs there; print where they are."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llama_programs.build import TARGETS, VULKAN_PACKAGES, BuildKind, ensure_programs, ensure_source
from llama_programs.fetch import cache_folder
from llama_programs.unpack import ensure_unpacked
from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq setup
  eoq setup --programs llama-cli llama-quantize --jobs 4
  eoq setup --cuda
  eoq setup --vulkan
  eoq setup --tar eoq-llama.cpp-VERSION-PATCH-linux-x86_64.tar.xz
"""


def make_parser(prog: str = "python -m llama_programs.setup") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="parallel jobs (default: one a core)")
    parser.add_argument(
        "--cuda",
        nargs="?",
        const="native",
        metavar="ARCH",
        help="with CUDA, for this machine's GPU or for compute capabilities as CMake takes them: 86, '86;89', ...",
    )
    parser.add_argument(
        "--vulkan", action="store_true", help=f"with Vulkan, for GPUs of all makers (Debian: {VULKAN_PACKAGES})"
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=TARGETS,
        metavar="NAME",
        help=f"build these alone: {', '.join(TARGETS)} (default: all)",
    )
    parser.add_argument(
        "--tar",
        type=Path,
        metavar="FILE",
        help="unpack the programs of this tar of tools/package.sh, whose .sha256 lies beside it (default: build them)",
    )
    parser.add_argument("--source", action="store_true", help="only fetch and patch; print the folder of the source")
    return parser


def main(words: Sequence[str] | None = None, prog: str = "python -m llama_programs.setup") -> int:
    """The command line; returns the exit status."""
    parser = make_parser(prog)
    options = parser.parse_args(words)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    if options.tar and (options.cuda or options.vulkan or options.programs or options.source):
        parser.error("--tar builds nothing; leave --cuda, --vulkan, --programs and --source out")
    return run_tool(_run, options, lambda options: "run again to go on where it stopped")


def _run(options: argparse.Namespace) -> None:
    cache, kind = cache_folder(), BuildKind(cuda=options.cuda, vulkan=options.vulkan)
    if options.tar:
        print(ensure_unpacked(options.tar, cache))
    elif options.source:
        print(ensure_source(cache, kind))
    else:
        print(ensure_programs(cache, options.jobs, kind, options.programs))


if __name__ == "__main__":
    sys.exit(main())
