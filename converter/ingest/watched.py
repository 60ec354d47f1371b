"""Programs that write a file, run to their end while the size of what they write tells how far they are."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from llama_programs.run import running
from terminal.progress import Progress

_POLL_SECONDS = 0.2


def run_watched(
    command: Sequence[str],
    environment: Mapping[str, str],
    out: int,
    errors: int,
    size: Callable[[], int],
    progress: Progress,
) -> int:
    """Run a program, its output to two descriptors; `progress` hears how `size`, in bytes, grows. Returns its status.

    Raises ProgramFailed where it cannot be started.
    """
    seen = size()
    with running(command, env=dict(environment), stdout=out, stderr=errors) as process:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS)
            now = size()
            progress.advance(now - seen)
            seen = now
