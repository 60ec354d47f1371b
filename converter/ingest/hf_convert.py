"""From a Hugging Face folder to a GGUF: llama.cpp's own converter, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from converter.errors import HfConversionError
from converter.ingest import hf_launcher
from converter.ingest.hf_folder import HfFolder
from llama_programs.run import ending, running
from terminal.progress import Progress

_POLL_SECONDS = 0.2
_UNSUPPORTED = re.compile(r"ERROR:hf-to-gguf:Model (\S+) is not supported")
_LAST_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b.*|ERROR:.*)$", re.MULTILINE)


def convert_to_gguf(folder: HfFolder, target: Path, llama_dir: Path, threads: int, progress: Progress) -> None:
    """Write the model to `target` in the precision that it has. Raises HfConversionError; the caller removes leftovers.

    No code of the model's own is run, and nothing is downloaded.
    """
    command = [
        sys.executable,
        hf_launcher.__file__,
        str(llama_dir),
        "--outtype",
        folder.outtype,
        "--outfile",
        str(target),
        str(folder.path.resolve()),
    ]
    with tempfile.TemporaryFile() as log:
        code = _run(command, _environment(threads), log.fileno(), target, progress)
        log.seek(0)
        said = log.read().decode(errors="replace")
    if code != 0:
        raise HfConversionError(_reason(folder.path, code, said))
    if not target.exists():
        raise HfConversionError(f"llama.cpp's converter ended without writing a file for {folder.path}")


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": str(threads),
    }


def _run(command: list[str], environment: dict[str, str], log: int, target: Path, progress: Progress) -> int:
    """Run the command to its end, telling how the target grows. Returns its exit status."""
    seen = 0
    with running(command, env=environment, stdout=log, stderr=log) as process:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS)
            size = target.stat().st_size if target.exists() else 0
            progress.advance(size - seen)
            seen = size


def _reason(folder: Path, code: int, said: str) -> str:
    """One sentence from what the converter printed."""
    if hf_launcher.REFUSAL in said:
        return (
            f"the model in {folder} brings Python code of its own, or loads another model by its name, and neither is "
            "done here; if you trust it, convert it with llama.cpp's convert_hf_to_gguf.py, and give the GGUF of that"
        )
    unsupported = _UNSUPPORTED.search(said)
    if unsupported:
        return f"llama.cpp's converter does not know the architecture {unsupported[1]} of the model in {folder}"
    if code < 0 and code != -signal.SIGKILL:
        return f"llama.cpp's converter {ending(code)} while it read {folder}; is the disk at fault?"
    if code == -signal.SIGKILL:
        return f"llama.cpp's converter was killed while it read {folder}; was there too little memory?"
    errors = _LAST_ERROR.findall(said)
    last = errors[-1] if errors else (said.strip().splitlines() or [f"exit status {code}"])[-1]
    return f"llama.cpp's converter could not read the model in {folder}: {last[:500]}"
