"""A program that stands in for llama-check-gguf and says what a test wants to hear."""

import shlex
from pathlib import Path

VALID = "valid: 1 tensors, 1 bytes"
LOADS = f"{VALID}\nloads"


def check_program(folder: Path, says: str, status: int = 0, end: str = "", loads_alone: bool = False) -> Path:
    """Write it into a new folder `bin` in `folder`, which is returned.

    `end` are words of the shell that it ends with in place of a status; `loads_alone`: whether it loads what it is
    given with --load-only.
    """
    program = folder / "bin" / "llama-check-gguf"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --load-only ] && exit {int(not loads_alone)}\n'
        + (f"printf '%s\\n' {shlex.quote(says)}\n" if says else "")
        + f"{end or f'exit {status}'}\n"
    )
    program.chmod(0o755)
    return program.parent
