"""Run llama-bench on a model: speed of reading a prompt and of generating tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_programs.errors import ProgramFailed
from llama_programs.run import output_of


@dataclass(frozen=True)
class Speed:
    """Tokens a second."""

    prompt: float
    generation: float


@dataclass(frozen=True)
class LlamaBench:
    """llama-bench with the options that all runs share."""

    program: Path
    prompt_tokens: int = 512
    generated_tokens: int = 128
    gpu_layers: int = 0
    """Layers on the GPU; 0: everything on the CPU."""

    def command(self, model: Path, threads: Sequence[int]) -> list[str]:
        """One call for all numbers of threads: the model is loaded once. Each test is warmed up and run once."""
        counts = ["-p", str(self.prompt_tokens), "-n", str(self.generated_tokens), "-r", "1"]
        place = ["-ngl", str(self.gpu_layers)]
        if not self.gpu_layers:
            place += ["-nopo", "1"]  # also large products, where there is an accelerator
        chosen = ["-t", ",".join(map(str, threads)), *counts, *place]
        return [str(self.program), "-m", str(model), *chosen, "-o", "json"]

    def run(self, model: Path, threads: Sequence[int]) -> dict[int, Speed]:
        """Speeds by number of threads. Raises ProgramFailed."""
        return parse(output_of(self.command(model, threads)), threads)


def parse(output: str, threads: Sequence[int]) -> dict[int, Speed]:
    """Speeds by number of threads, from llama-bench's JSON. Raises ProgramFailed unless all are there."""
    prompt: dict[int, float] = {}
    generation: dict[int, float] = {}
    try:
        for test in json.loads(output):
            speeds = generation if test["n_gen"] else prompt
            speeds[int(test["n_threads"])] = float(test["avg_ts"])
        return {count: Speed(prompt[count], generation[count]) for count in threads}
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramFailed(f"llama-bench printed what cannot be understood ({error!r}):\n{output[-3000:]}") from None
