"""How a conversion tells what it is doing, tensor by tensor."""

from collections.abc import Sequence

from converter.report.records import TensorRecord
from terminal.progress import Progress


class ConversionProgress(Progress):
    """Hears of a conversion's progress. This one stays silent: derive from it and override what is of interest."""

    def tensors_kept(self, records: Sequence[TensorRecord], count: int) -> None:
        """Of `count` tensors these were written by an earlier run."""

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        """Tensor `number` (from 1) of `count` has been written."""
