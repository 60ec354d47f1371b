"""An embedding model (BERT) gives nearly the same embeddings from an EOQ file as in F32."""

import json
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


def embeddings(programs: Path, model: Path) -> NDArray[np.float64]:
    """Normalised embeddings (sentences, width)."""
    options = ("--embd-output-format", "json", "--embd-separator", "|", "-lv", "0")
    output = run(programs / "llama-embedding", "-m", model, "-p", "|".join(SENTENCES), *options)
    data = json.loads(output)["data"]
    vectors: NDArray[np.float64] = np.array([item["embedding"] for item in data])
    assert vectors.shape[0] == len(SENTENCES)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


# relative squared errors of the types on Gaussian weights, a little above the measured ones
@pytest.mark.parametrize(("type_name", "squared_error"), [("eoq5", 0.0025), ("eoq4", 0.0095)])
def test_cosine_similarity_to_f32(
    programs: Path, minilm_f32: Path, minilm: Convert, type_name: str, squared_error: float
) -> None:
    similarity = (embeddings(programs, minilm_f32) * embeddings(programs, minilm(type_name))).sum(axis=1)
    floor = floor_of_cosine(squared_error)
    print(f"cosine similarity of {type_name} to F32: least {similarity.min():.4f}, mean {similarity.mean():.4f}")
    assert similarity.min() >= floor
