"""Second moments of what flows into a model's tensors: read, checked, merged."""

from converter.statistics.check import check_statistics, fingerprint
from converter.statistics.derived import DerivedStatistics
from converter.statistics.merge import merge_statistics, mix_statistics
from converter.statistics.open import open_statistics
from converter.statistics.shrunk import ShrunkStatistics
from converter.statistics.statistics import Statistics
from converter.statistics.summary import TensorSummary, comparison_lines, difference, summarise, table_lines

__all__ = [
    "DerivedStatistics",
    "ShrunkStatistics",
    "Statistics",
    "TensorSummary",
    "check_statistics",
    "comparison_lines",
    "difference",
    "fingerprint",
    "merge_statistics",
    "mix_statistics",
    "open_statistics",
    "summarise",
    "table_lines",
]
