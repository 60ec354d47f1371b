"""Threads and modes of PyTorch and BLAS for the time of a stage."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from eoq_formats import kernels


@contextmanager
def torch_settings(threads: int, gradients: bool = False) -> Iterator[None]:
    """Run with so many threads, and without gradients unless they are asked for."""
    before = torch.get_num_threads()
    kernels.set_threads(threads)  # numba and torch share one OpenMP, and the last to set its threads wins
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(not gradients), threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
