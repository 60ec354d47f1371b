"""A small model with its statistics, and programs that stand in for llama.cpp's and write down how they are called."""

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray

from eoq_formats.gguf_registration import register
from tests.integration.converter.test_hf_folders import stand_in
from tests.integration.options.tools import Effect, done, refused
from tests.samples.gguf_samples import random_weights, write_gguf
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.unit.converter.test_rounding_method import NORM, OUTPUT, TENSORS, N, write_moments, write_sums

register()

_PROGRAM = """\
#!{python}
import json, os, shutil, sys
words = sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([*words, "OMP_NUM_THREADS=" + os.environ.get("OMP_NUM_THREADS", "")]) + "\\n")
shutil.copy({ready!r}, words[words.index({option!r}) + 1])
"""


@dataclass(frozen=True)
class Inputs:
    """What tools read, all in one folder."""

    folder: Path

    @property
    def model(self) -> Path:
        """A GGUF of one block: embeddings, a norm, attention's q, k and v, output; it says that it has experts."""
        return self.folder / "model.gguf"

    @property
    def statistics(self) -> Path:
        """Moments of what flows into attention."""
        return self.folder / "model.stats"

    @property
    def imatrix(self) -> Path:
        return self.folder / "imatrix.gguf"

    @property
    def text(self) -> Path:
        return self.folder / "text.txt"

    @property
    def hf_folder(self) -> Path:
        """Of another model."""
        return self.folder / "hf"

    @property
    def made(self) -> Path:
        """The model once more, as a file in that folder."""
        return self.hf_folder / "made.gguf"

    @property
    def llama_dir(self) -> Path:
        """A tree whose converter makes `model` of every folder."""
        return self.folder / "llama.cpp"

    @property
    def llama_bin(self) -> Path:
        """A folder with a llama-moments that finds `statistics` in every model."""
        return self.folder / "bin"

    @property
    def calls(self) -> list[list[str]]:
        """The words that these two programs were called with, and the threads that their environment names."""
        file = self.folder / "calls.txt"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@dataclass(frozen=True)
class Place:
    """Where a check works: inputs that it leaves as they are, an empty folder, and what it puts in place of parts."""

    inputs: Inputs
    folder: Path
    patch: pytest.MonkeyPatch

    def threads_of(self, target: str, argument: int) -> list[int]:
        """From now on, the threads that a function is given, as its argument of that place."""
        seen: list[int] = []
        module, _, name = target.rpartition(".")
        function = getattr(importlib.import_module(module), name)

        def spied(*arguments: Any, **named: Any) -> Any:
            seen.append(arguments[argument])
            return function(*arguments, **named)

        self.patch.setattr(target, spied)
        return seen


def from_folder(tool: str, *words: str) -> Effect:
    """--llama-dir, --work-dir and --hf-option of a tool; `{hf}` in its words is a Hugging Face folder."""

    def check(place: Place) -> None:
        empty, work = place.folder / "empty", place.folder / "work"
        empty.mkdir()
        work.mkdir()
        names = {"hf": place.inputs.hf_folder, "out": place.folder, "bin": place.inputs.llama_bin}
        command = [tool, *(word.format(**names) for word in words)]
        assert f"{empty} is no llama.cpp source tree" in refused(*command, "--llama-dir", empty)
        calls = len(place.inputs.calls)
        passed_on = ("--hf-option", "model-name=A Name", "--hf-option=--fuse-qkv")
        done(*command, "--llama-dir", place.inputs.llama_dir, "--work-dir", work, *passed_on)
        call = place.inputs.calls[calls]
        assert {"--model-name=A Name", "--fuse-qkv"} <= set(call)
        assert work in Path(call[call.index("--outfile") + 1]).parents and not list(work.iterdir())

    return check


@pytest.fixture
def place(inputs: Inputs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(inputs, folder, monkeypatch)


def write_model(path: Path) -> Path:
    def metadata(writer: GGUFWriter) -> None:
        writer.add_block_count(1)
        writer.add_context_length(512)
        writer.add_embedding_length(N)
        writer.add_head_count(4)
        writer.add_head_count_kv(4)
        writer.add_expert_count(6)

    tensors: dict[str, NDArray[np.generic]] = {
        "token_embd.weight": random_weights(8, 40, N),
        NORM: np.ones(N, np.float32),
        **{name: random_weights(i, N, N, dtype=np.float32) for i, name in enumerate(TENSORS)},
        OUTPUT: random_weights(9, 40, N),
    }
    return write_gguf(path, tensors, metadata)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    found = Inputs(tmp_path_factory.mktemp("inputs"))
    write_model(found.model)
    write_moments(found.folder, found.model)
    write_sums(found.folder)
    write_tiny_llama(found.hf_folder)
    found.made.hardlink_to(found.model)
    found.text.write_text("word " * 4000)
    calls = str(found.folder / "calls.txt")

    def program(ready: Path, option: str) -> str:
        return _PROGRAM.format(python=sys.executable, calls=calls, ready=str(ready), option=option)

    stand_in(found.folder, program(found.model, "--outfile"))
    found.llama_bin.mkdir()
    moments = found.llama_bin / "llama-moments"
    moments.write_text(program(found.statistics, "-o"))
    moments.chmod(0o755)
    return found
