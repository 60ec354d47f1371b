"""Channel scales (AWQ): which may be folded where, and which are best."""

from converter.scaling.fold_groups import FoldGroup, FoldTable, Producer, fold_groups
from converter.scaling.folding import Fold, Folded, FoldedStatistics, scale_moments

__all__ = [
    "Fold",
    "FoldGroup",
    "FoldTable",
    "Folded",
    "FoldedStatistics",
    "Producer",
    "fold_groups",
    "scale_moments",
]
