"""The C kernels of ggml_patch, compiled alone and called through ctypes."""

import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eoq_formats.types import ActivationType, WeightType

PATCH = Path(__file__).parents[3] / "ggml_patch"


def compile_library(target: Path, flags: list[str]) -> None:
    """Compile the kernels into the shared library `target`."""
    sources = [*(PATCH / "base").glob("*.c"), *(PATCH / "cpu").glob("*.c")]
    includes = [f"-I{PATCH}", f"-I{PATCH / 'base'}", f"-I{PATCH / 'cpu'}"]
    command = [os.environ.get("CC", "cc"), "-std=c11", "-shared", "-fPIC", "-DEOQ_STANDALONE", "-DNDEBUG"]
    subprocess.run([*command, *flags, *includes, *map(str, sources), "-lm", "-o", str(target)], check=True)


class CKernels:
    """The functions of the library on NumPy arrays; names as in ggml-eoq.h and eoq-cpu.h."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def quantize(self, x: NDArray[np.float32], t: WeightType) -> NDArray[np.uint8]:
        out = np.zeros((x.shape[0], t.row_bytes(x.shape[1])), dtype=np.uint8)
        self._call(f"quantize_row_{t.name.lower()}_ref", x, out, ctypes.c_int64(x.size))
        return out

    def dequantize(self, data: NDArray[np.uint8], t: WeightType, prefix: str = "") -> NDArray[np.float32]:
        """The portable function or, with the prefix `ggml_eoq_`, the CPU's."""
        out = np.zeros((data.shape[0], data.shape[1] // t.block_bytes * t.width), dtype=np.float32)
        self._call(f"{prefix}dequantize_row_{t.name.lower()}", data, out, ctypes.c_int64(out.size))
        return out

    def quantize_activations(self, x: NDArray[np.float32], t: ActivationType, variant: str) -> NDArray[np.uint8]:
        out = np.zeros((x.shape[0], x.shape[1] // t.width * t.block_bytes), dtype=np.uint8)
        self._call(f"quantize_row_{t.name.lower()}{variant}", x, out, ctypes.c_int64(x.size))
        return out

    def dot(self, weights: NDArray[np.uint8], activations: NDArray[np.uint8], t: WeightType, variant: str) -> float:
        out = np.zeros(1, dtype=np.float32)
        zero = ctypes.c_size_t(0)
        n = ctypes.c_int(weights.size // t.block_bytes * t.width)
        name = f"ggml_vec_dot_{t.name.lower()}_{t.activation.name.lower()}{variant}"
        self._call(name, n, out, zero, weights, zero, activations, zero, ctypes.c_int(1))
        return float(out[0])

    def _call(self, name: str, *arguments: object) -> None:
        converted = [
            np.ascontiguousarray(a).ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else a
            for a in arguments
        ]
        getattr(self._library, name)(*converted)
