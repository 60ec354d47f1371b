"""How far a stage of work is, and how long the rest will take at the pace so far."""

import time


class Pace:
    """Of one stage, from now on."""

    def __init__(self, total: int | None) -> None:
        """`total` units of work; None for a number that is not known yet."""
        self.total = total
        self.done = 0
        self._started = time.monotonic()
        self._skipped = 0

    def advance(self, amount: int) -> None:
        """So many more units are done."""
        self.done += amount

    def skip(self, amount: int) -> None:
        """So many were done by an earlier run: they say nothing of the pace."""
        self.done += amount
        self._skipped += amount

    def set(self, done: int, total: int) -> None:
        """So many of so many are done. The pace is counted from when that is known."""
        if self.total is None:
            self._started, self._skipped = time.monotonic(), done
        self.done, self.total = done, total

    @property
    def seconds_left(self) -> float | None:
        """None as long as nothing is known of the pace or the total."""
        worked = self.done - self._skipped
        if not self.total or worked <= 0:
            return None
        return max(0, self.total - self.done) * (time.monotonic() - self._started) / worked
