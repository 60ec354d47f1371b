"""How a conversion tells what it is doing."""

from converter.report import TensorRecord


class Progress:
    """Hears of a conversion's progress. This one stays silent: derive from it and override what is of interest."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins that has `total` units of work; 0 when that is not known."""

    def advance(self, amount: int) -> None:
        """So many more units of the stage's work are done."""

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        """Tensor `number` (from 1) of `count` has been written."""
