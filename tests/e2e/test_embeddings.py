"""An embedding model (BERT) gives nearly the same embeddings from an EOQ file as in F32."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.e2e.command import run
from tests.e2e.conftest import Convert

SENTENCES = (
    "A man is eating food.",
    "The girl is carrying a baby.",
    "Two men pushed carts through the woods.",
    "A cheetah is running behind its prey.",
    "The central bank raised interest rates by half a point on Tuesday.",
    "The integral of a Gaussian over the real line is the square root of pi.",
)

LAYERS = 6
MATRICES_IN_SERIES = 6
"""A layer's weights that the signal passes one after the other: query and key count as one, then value and output of
attention, up and down; one more for the next layer's norm that spreads the error."""


def floor_of_cosine(squared_error: float) -> float:
    """What the cosine similarity must reach with this relative squared error of the weights.

    Each matrix adds noise of `squared_error` of its signal's power, independent of the others' noise, and residual
    connections and layer norms do not amplify it. So noise over signal is at most the sum over all matrices in series,
    and the cosine between a signal and itself with independent noise is 1 / sqrt(1 + noise / signal).
    """
    return 1 / math.sqrt(1 + LAYERS * MATRICES_IN_SERIES * squared_error)


def embeddings(programs: Path, model: Path, work: Path) -> NDArray[np.float64]:
    """Normalised embeddings (sentences, width).

    From llama-debug, which writes them to a file: llama-embedding now and then ends before its output is complete.
    """
    vectors = []
    for sentence in SENTENCES:
        options = ("--embedding", "--save-logits", "--logits-output-dir", work)
        run(programs / "llama-debug", "-m", model, "-p", sentence, *options)
        vectors.append(np.fromfile(work / f"llamacpp-{model.stem}-embeddings.bin", np.float32).astype(np.float64))
    return np.array([vector / np.linalg.norm(vector) for vector in vectors])


# relative squared errors of the types on Gaussian weights, a little above the measured ones
@pytest.mark.parametrize(("type_name", "squared_error"), [("eoq5", 0.0025), ("eoq4", 0.0095)])
def test_cosine_similarity_to_f32(
    programs: Path, minilm_f32: Path, minilm: Convert, tmp_path: Path, type_name: str, squared_error: float
) -> None:
    true = embeddings(programs, minilm_f32, tmp_path)
    similarity = (true * embeddings(programs, minilm(type_name), tmp_path)).sum(axis=1)
    floor = floor_of_cosine(squared_error)
    print(f"cosine similarity of {type_name} to F32: least {similarity.min():.4f}, mean {similarity.mean():.4f}")
    assert similarity.min() >= floor
