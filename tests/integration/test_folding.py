"""Random scales in every fold group of an architecture leave its logits in patched llama.cpp what they were, in F32."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter import ConversionOptions, SourceAccess, TypeOptions, convert
from converter.scaling.fold_groups import FoldGroup, fold_groups
from converter.scaling.fold_rules import ARCHITECTURES
from converter.scaling.folding import Fold, Folded
from gguf_files.output import GgufOutput
from gguf_files.source import Source, open_gguf
from gguf_files.weights import RowWorkers, SourceWeights
from material import models
from tests.e2e.command import run
from tests.samples.tiny_ggufs import LAYOUTS, write_gguf_model
from tests.samples.tiny_models import write_model

PROMPT = "number 12 answers 144 questions about the model"
TOLERANCE = 1e-4
"""Relative error in the norm of the logits: float32 sums of some hundred terms in another rounding."""
GELU_TOLERANCE = 1e-3
"""The same for MiniLM's embeddings: llama.cpp's gelu reads a table of F16 numbers, and the last bit decides which."""

ATTENTION = {"attn_norm", "attn_v"}
DENSE = ATTENTION | {"ffn_norm", "ffn_up"}
EXPERTS = ATTENTION | {"ffn_norm", "ffn_up_exps"}
GROUPS = {
    "llama": DENSE | {"output_norm"},
    "mixtral": EXPERTS | {"output_norm"},
    "qwen2": DENSE,
    "qwen2moe": EXPERTS | {"ffn_up_shexp", "output_norm"},
    "qwen3": DENSE,
    "qwen3moe": EXPERTS | {"output_norm"},
    "gemma": DENSE,
    "gemma2": DENSE,
    "gemma3": DENSE,
    "phi3": DENSE | {"output_norm"},
    "bert": {"attn_v"},
    "modern-bert": DENSE,
}
"""Tiny model: kinds of fold groups that it must have in every block."""


def test_every_fold_table_is_tested() -> None:
    assert set(ARCHITECTURES) == set(GROUPS) - {"mixtral"}


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Gives a model in F32 by the name of its architecture."""
    folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("models")
    llama_source: Path = request.getfixturevalue("llama_source")

    def get(architecture: str) -> Path:
        target = folder / f"{architecture}.gguf"
        if target.exists():
            return target
        if architecture in LAYOUTS:
            return write_gguf_model(architecture, target, tokens_of=get(LAYOUTS[architecture].tokens_of))
        source = models.minilm() if architecture == "bert" else folder / architecture
        if architecture != "bert":
            write_model(architecture, source)
        access = SourceAccess(llama_dir=llama_source)
        convert(source, target, ConversionOptions(TypeOptions(tensor_types=(".=f32",)), source=access))
        return target

    return get


def random_folds(groups: Sequence[FoldGroup], exact: bool) -> list[Fold]:
    """Random scales, powers of two if `exact`."""
    random = np.random.default_rng(7)
    folds = []
    for group in groups:
        exponents = random.standard_normal((group.experts, group.sources))
        folds.append(Fold(group, np.exp2(np.rint(2 * exponents) if exact else exponents).astype(np.float32)))
    return folds


def write_folded(source: Source, folds: Sequence[Fold], target: Path) -> None:
    with RowWorkers(1) as workers, GgufOutput(target, source.metadata, source.tensors, source.alignment) as output:
        folded = Folded(SourceWeights(source, workers), folds)
        for tensor in source.tensors:
            whole = (0, tensor.rows)
            output.write_tensor(
                [folded.stored(tensor, *whole) if folded.touches(tensor.name) else source.rows(tensor, *whole)]
            )
        output.commit()


def outputs(programs: Path, model: Path, work: Path, embeddings: bool) -> NDArray[np.float64]:
    """Logits after the prompt, or embeddings of all its tokens, with a cache in F32."""
    exact = ("-ctk", "f32", "-ctv", "f32", "-fa", "off", "-c", "128", "-t", "2")
    wanted = ("--embedding", "--pooling", "none") if embeddings else ()
    run(
        programs / "llama-debug",
        "-m",
        model,
        "-p",
        PROMPT,
        "--save-logits",
        "--logits-output-dir",
        work,
        *exact,
        *wanted,
    )
    name = f"llamacpp-{model.stem}{'-embeddings' if embeddings else ''}.bin"
    return np.fromfile(work / name, np.float32).astype(np.float64)


@pytest.mark.parametrize("architecture", GROUPS)
def test_a_folded_model_gives_the_same(
    architecture: str, model: Callable[[str], Path], programs: Path, tmp_path: Path
) -> None:
    source = open_gguf(model(architecture))
    table = fold_groups(source.architecture, source.tensors, source.metadata, head=True)
    blocks = [g for g in table.groups if g.kind != "output_norm"]
    assert {g.kind for g in table.groups} == GROUPS[architecture]
    last = max(int(g.name.split(".")[1]) for g in blocks)
    for kind in GROUPS[architecture] - {"output_norm"}:
        without = architecture == "modern-bert" and kind == "attn_norm"
        assert sum(g.kind == kind for g in blocks) == last + 1 - without, kind

    embeddings = architecture in ("bert", "modern-bert")
    true = outputs(programs, source.paths[0], tmp_path, embeddings)
    assert true.size > 0 and np.isfinite(true).all() and true.std() > 0
    folded = tmp_path / "folded.gguf"
    # powers of two change no rounding anywhere
    write_folded(source, random_folds(table.groups, exact=True), folded)
    assert np.array_equal(outputs(programs, folded, tmp_path, embeddings), true)

    write_folded(source, random_folds(table.groups, exact=False), folded)
    got = outputs(programs, folded, tmp_path, embeddings)
    error = np.linalg.norm(got - true) / np.linalg.norm(true)
    print(f"{architecture}: {len(table.groups)} groups, relative error {error:.2e}")
    assert error < (GELU_TOLERANCE if architecture == "bert" else TOLERANCE)
