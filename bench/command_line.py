"""How a benchmark that makes or runs models ends."""

import argparse
import sys
from collections.abc import Callable

from bench.timed_run import ProgramFailed
from eoq_formats.errors import EoqError
from ggml_patch.errors import PatchToolError


def run_to_the_end(run: Callable[[argparse.Namespace], None], options: argparse.Namespace, interrupted: str) -> int:
    """The exit status. What a user can mend ends in a line on standard error; `interrupted` says what Ctrl-C leaves."""
    try:
        run(options)
    except (EoqError, ProgramFailed, PatchToolError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"error: interrupted; {interrupted}", file=sys.stderr)
        return 130
    return 0
