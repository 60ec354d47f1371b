"""FastEWQ: which blocks EWQ would quantise, guessed from the shape of the model alone."""

from converter.plan.planners.fastewq.blocks import BlockShape, blocks_of_config, blocks_of_model
from converter.plan.planners.fastewq.classifier import FastEwq
from converter.plan.planners.fastewq.dataset import DATASET, Dataset, read_dataset, write_dataset

__all__ = [
    "DATASET",
    "BlockShape",
    "Dataset",
    "FastEwq",
    "blocks_of_config",
    "blocks_of_model",
    "read_dataset",
    "write_dataset",
]
