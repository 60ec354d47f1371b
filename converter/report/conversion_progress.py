"""How a conversion tells what it is doing, tensor by tensor."""

from converter.report.records import TensorRecord
from terminal.progress import Progress


class ConversionProgress(Progress):
    """Hears of a conversion's progress. This one stays silent: derive from it and override what is of interest."""

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        """Tensor `number` (from 1) of `count` has been written."""
