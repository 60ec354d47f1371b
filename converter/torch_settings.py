"""Threads and modes of PyTorch and BLAS for the time of a stage."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from converter.errors import OptionError
from eoq_formats import kernels


@contextmanager
def torch_settings(threads: int) -> Iterator[None]:
    """Run with so many threads, and without gradients."""
    before = torch.get_num_threads()
    kernels.set_threads(threads)  # numba and torch share one OpenMP, and the last to set its threads wins
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def check_device(name: str) -> None:
    """Raises OptionError for a device that PyTorch cannot use here."""
    try:
        torch.zeros(1, device=torch.device(name)).cpu()  # the meta device has nothing to give back
    except (RuntimeError, AssertionError, ImportError) as e:
        reason = str(e).splitlines()[0]
        raise OptionError(f"PyTorch cannot use the device {name!r} here ({reason}); choose cpu") from None
