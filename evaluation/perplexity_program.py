"""Run llama-perplexity: its output while it runs, and errors that say what went wrong."""

import codecs
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.cores import available_cores
from evaluation.errors import EvaluationError
from evaluation.perplexity_output import error_lines
from ggml_patch.build import built_programs
from ggml_patch.errors import PatchToolError
from ggml_patch.fetch import cache_folder

NAME = "llama-perplexity"
_PATIENCE = 10.0
"""Seconds that a run gets to end by itself before it is killed."""


def find_program(folder: Path | None) -> Path:
    """llama-perplexity in `folder`, or the one that tools/setup.sh built. Raises EvaluationError."""
    if folder is None:
        try:
            folder = built_programs(cache_folder())
        except PatchToolError as error:
            raise EvaluationError(f"{error}, or name a folder of llama.cpp programs with --llama-bin") from None
    program = folder / NAME
    if not os.access(program, os.X_OK) or not program.is_file():
        raise EvaluationError(f"{folder} has no program {NAME}; build it, or name another folder with --llama-bin")
    return program.absolute()


@dataclass(frozen=True)
class PerplexityProgram:
    """llama-perplexity with the options that all runs share."""

    path: Path
    context: int
    threads: int = field(default_factory=available_cores)
    gpu_layers: int | None = None

    def run(self, model: Path, options: Sequence[str], heard: Callable[[str], None]) -> str:
        """Evaluate `model`; `heard` gets all that was printed so far whenever there is more. Returns the whole output.

        Both streams come together. Raises EvaluationError if the program fails; if `heard` raises, the run is ended.
        """
        command = [str(self.path), "-m", str(model), "-c", str(self.context), "-t", str(self.threads), *options]
        if self.gpu_layers is not None:
            command += ["-ngl", str(self.gpu_layers)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise EvaluationError(f"{self.path} cannot be run: {error.strerror}") from None
        try:
            output = _listen(process, heard)
            process.wait()
        finally:
            _end(process)
        if process.returncode:
            raise EvaluationError(f"{NAME} {_ending(process.returncode)} on {model}: {error_lines(output)}")
        return output


def _listen(process: "subprocess.Popen[bytes]", heard: Callable[[str], None]) -> str:
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    output = ""
    # the raw descriptor: chunks are reported one by one on a line that takes minutes to end
    while data := os.read(process.stdout.fileno(), 1 << 16):
        output += decoder.decode(data)
        heard(output)
    return output


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave no run behind, whatever happened."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _ending(status: int) -> str:
    if status > 0:
        return f"failed (status {status})"
    hint = " (out of memory?)" if -status == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{hint}"
