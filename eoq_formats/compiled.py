"""numba.njit for functions that stay compiled between runs, where there is a place for that."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As numba.njit(cache=True, …), which refuses to work where neither this project's folder nor the home folder can
    be written to, and fails where their disk is full: here functions are compiled anew in each process then."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        with suppress(RuntimeError):  # "cannot cache function"
            dispatcher._cache = _Cache(function)
        return dispatcher

    return compiled


class _Cache(FunctionCache):  # type: ignore[misc]
    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)
