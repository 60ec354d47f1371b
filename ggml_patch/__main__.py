"""Command line of the patch tool: python -m ggml_patch {apply,check,revert,diff,key,versions} [TREE]"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eoq_formats.errors import EoqError
from ggml_patch.apply import apply, check, content_key, original_changes, revert
from ggml_patch.unified import unified_patch
from ggml_patch.versions import OLDER, PINNED

TREE_ACTIONS = {
    "apply": "copy our sources into TREE and make the edits; brings an older patch up to date",
    "check": "find out whether every edit fits; changes nothing",
    "revert": "take the patch out again; every byte is as before",
    "diff": "print an ordinary patch for patch -p1 or git apply; changes nothing",
}

EXAMPLES = """\
examples:
  eoq patch check llama.cpp
  eoq patch apply llama.cpp
  eoq patch diff llama.cpp > eoq.patch
"""


def make_parser(prog: str = "python -m ggml_patch") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Teach a llama.cpp tree the EOQ types.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in TREE_ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("tree", type=Path, metavar="TREE", help="a llama.cpp source tree")
        if name == "apply":
            flags = action.add_mutually_exclusive_group()
            for flag in ("check", "revert", "diff"):
                flags.add_argument(
                    f"--{flag}", dest="action", action="store_const", const=flag, default=name, help=TREE_ACTIONS[flag]
                )
    key = actions.add_parser("key", help="print 12 hexadecimal digits that name this patch and the build options")
    key.add_argument("--build-option", action="append", default=[], metavar="TEXT", help="may be repeated")
    actions.add_parser("versions", help="print the llama.cpp versions that the edits are tested against")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.action == "key":
        print(content_key(options.build_option))
    elif options.action == "versions":
        for version in (PINNED, OLDER):
            print(version.package, version.version, version.sha256, version.tree)
    elif options.action == "check":
        print(f"{options.tree}: {check(options.tree).value}; every edit fits")
    elif options.action == "diff":
        sys.stdout.buffer.write(unified_patch(original_changes(options.tree)))
    else:
        changes = (revert if options.action == "revert" else apply)(options.tree)
        done = "reverted" if options.action == "revert" else "patched"
        print(f"{options.tree}: {done}, {len(changes)} files changed" if changes else f"{options.tree}: already {done}")


def main(words: Sequence[str] | None = None, prog: str = "python -m ggml_patch") -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if words is None else words)
    if arguments and arguments[0] in ("--check", "--revert", "--diff", "--key"):
        arguments[0] = arguments[0].removeprefix("--")
    try:
        _run(make_parser(prog).parse_args(arguments))
    except (EoqError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
