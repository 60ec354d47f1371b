"""All 65,536 half-precision numbers."""

import numpy as np

from gguf_files.half_floats import widen_bfloat16, widen_float16

ALL = np.arange(65536, dtype=np.uint16).reshape(64, 1024)


def test_float16_is_what_numpy_says() -> None:
    out = np.empty(ALL.shape, dtype=np.float32)
    widen_float16(ALL, out)
    expected = ALL.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(expected)
    assert (np.isnan(out) == ~numbers).all()
    assert (out.view(np.uint32) == expected.view(np.uint32))[numbers].all()


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    out = np.empty(ALL.shape, dtype=np.float32)
    widen_bfloat16(ALL, out)
    assert (out.view(np.uint32) == ALL.astype(np.uint32) << 16).all()
