import platform
from pathlib import Path

import pytest

from tests.unit.eoq_formats.c_library import CKernels, compile_library

# -O3 with every instruction of this machine (FMA contraction included), and a build without any extension
VARIANTS = {"native": ["-O3", "-march=native"], "baseline": ["-O2"]}
if platform.machine() == "x86_64":
    VARIANTS["avx2"] = ["-O3", "-mavx2", "-mfma"]


@pytest.fixture(scope="session", params=VARIANTS)
def c_kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CKernels:
    path: Path = tmp_path_factory.mktemp("c_kernels") / f"eoq_{request.param}.so"
    compile_library(path, VARIANTS[request.param])
    return CKernels(path)
