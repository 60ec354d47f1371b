"""The classifier: a standard scaler and a random forest, fitted when it is asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import OptionError
from converter.plan.planners.fastewq.blocks import FIRST_BLOCK, BlockShape
from converter.plan.planners.fastewq.dataset import Dataset
from converter.plan.precision_levels import RAW, STEPS, LevelTable, Precisions
from converter.plan.proposals import Proposal, Proposals, Rule

VARIANTS = ("8bit", "4bit/8bit")
SEED = 0
TREES = 200


def random_forest() -> Any:
    """A forest as scikit-learn grows it by default, with a fixed seed."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=TREES, random_state=SEED))


class FastEwq:
    """Trained on a data set."""

    def __init__(self, dataset: Dataset) -> None:
        self.pipeline = random_forest().fit(dataset.features, dataset.labels)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 for quantised, (rows,), of features (rows, 3)."""
        labels: NDArray[np.int64] = self.pipeline.predict(features)
        return labels

    def levels(self, blocks: Sequence[BlockShape], variant: str = "8bit", four_bit: int = 1) -> list[str]:
        """A level for each block, in the model's order.

        What the classifier picks gets 8 bits; in the variant `4bit/8bit` the last `four_bit` of these get 4, one in
        the paper's examples. Raises OptionError for another variant.
        """
        if variant not in VARIANTS:
            raise OptionError(f"there is no FastEWQ variant {variant!r}; choose {' or '.join(VARIANTS)}")
        features = np.array([(b.parameters, i + FIRST_BLOCK, len(blocks)) for i, b in enumerate(blocks)], np.float64)
        picked = np.flatnonzero(self.predict(features))
        levels = [RAW] * len(blocks)
        for i in picked:
            levels[i] = "8bit"
        if variant == "4bit/8bit":
            for i in picked[max(0, len(picked) - four_bit) :]:
                levels[i] = "4bit"
        return levels


def fast_precisions(levels: Sequence[str]) -> Precisions:
    """What may change on a cluster: blocks that were picked lose precision before others, later before earlier ones."""
    order = sorted(range(len(levels)), key=lambda block: (levels[block] == RAW, -block))
    return Precisions(STEPS, tuple(levels), tuple(order))


def propose_fast(blocks: Sequence[BlockShape], levels: Sequence[str], table: LevelTable) -> Proposals:
    """The levels as types for all matrices of the blocks."""
    rules = []
    for i, (block, level) in enumerate(zip(blocks, levels, strict=True)):
        why = f"{level}: FastEWQ, block {i + FIRST_BLOCK} of {len(blocks)}, {block.parameters:,} parameters"
        rules.append(Rule("^" + block.name.replace(".", r"\.") + r"\.", Proposal(table[level], why)))
    return Proposals("fastewq", rules=rules)
