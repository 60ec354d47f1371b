"""How long work tells what it is doing."""


class Progress:
    """Hears of progress. This one stays silent: derive from it and override what is of interest."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins that has `total` units of work; 0 when that is not known."""

    def advance(self, amount: int) -> None:
        """So many more units of the stage's work are done."""

    def skip(self, amount: int) -> None:
        """So many units of the stage's work were done by an earlier run."""
