"""Second moments of what flows into a model's tensors: read, checked, merged."""

from converter.statistics.check import check_statistics, fingerprint
from converter.statistics.merge import merge_statistics
from converter.statistics.open import open_statistics
from converter.statistics.statistics import LEAST_TOKENS_PER_CHANNEL, Statistics
from converter.statistics.summary import TensorSummary, summarise, table_lines

__all__ = [
    "LEAST_TOKENS_PER_CHANNEL",
    "Statistics",
    "TensorSummary",
    "check_statistics",
    "fingerprint",
    "merge_statistics",
    "open_statistics",
    "summarise",
    "table_lines",
]
