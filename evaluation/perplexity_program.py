"""Run llama-perplexity: its output while it runs, and errors that say what went wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.perplexity_output import error_lines
from llama_programs.run import ending, listen
from terminal.cores import available_cores

NAME = "llama-perplexity"


@dataclass(frozen=True)
class PerplexityProgram:
    """llama-perplexity with the options that all runs share."""

    path: Path
    context: int
    threads: int = field(default_factory=available_cores)
    gpu_layers: int | None = None

    def run(self, model: Path, options: Sequence[str], heard: Callable[[str], None]) -> str:
        """Evaluate `model`; `heard` gets all that was printed so far whenever there is more. Returns the whole output.

        Both streams come together. Raises EvaluationError if the program fails, ProgramFailed where it cannot be
        started; if `heard` raises, the run is ended.
        """
        command = [str(self.path), "-m", str(model), "-c", str(self.context), "-t", str(self.threads), *options]
        if self.gpu_layers is not None:
            command += ["-ngl", str(self.gpu_layers)]
        status, output = listen(command, heard)
        if status:
            raise EvaluationError(f"{NAME} {ending(status)} on {model}: {error_lines(output)}")
        return output
