"""Our own source files and where they go in a llama.cpp tree."""

from dataclasses import dataclass
from pathlib import Path

from ggml_patch.errors import PatchError

HERE = Path(__file__).resolve().parent

CPU_FOLDER = "ggml/src/ggml-cpu/eoq"
CUDA_FOLDER = "ggml/src/ggml-cuda/eoq"
VULKAN_FOLDER = "ggml/src/ggml-vulkan"

_FOLDERS = (
    (HERE, "ggml/src", ("eoq-format.h",)),
    (HERE / "base", "ggml/src", ("*.h", "*.c")),
    (HERE / "cpu", CPU_FOLDER, ("*.h", "*.c")),
    (HERE / "cpu_ggml", CPU_FOLDER, ("*.h", "*.c")),
    (HERE / "cuda", CUDA_FOLDER, ("*.cuh", "*.cu")),
    (HERE / "cuda" / "mmq", CUDA_FOLDER, ("*.cu",)),
    (HERE / "cuda" / "lab", "tests/eoq", ("*.cpp",)),
    (HERE / "vulkan", VULKAN_FOLDER, ("*.h",)),
    (HERE / "vulkan" / "shaders", f"{VULKAN_FOLDER}/vulkan-shaders", ("*.h", "*.glsl", "*.comp")),
    (HERE / "programs" / "check", "tools/check", ("CMakeLists.txt", "*.h", "*.cpp")),
    (HERE / "programs" / "moments", "tools/moments", ("CMakeLists.txt", "*.h", "*.cpp")),
)


@dataclass(frozen=True)
class Source:
    """A file of ours and its path in the tree."""

    ours: Path
    path: str

    def read(self) -> bytes:
        return self.ours.read_bytes()


def sources() -> list[Source]:
    """All files to copy, by path. Raises PatchError if a folder of ours has none: an incomplete checkout."""
    listed: list[Source] = []
    for folder, target, patterns in _FOLDERS:
        files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
        if not files:
            raise PatchError(f"{folder} holds none of our sources ({', '.join(patterns)}); get a complete checkout")
        listed += [Source(file, f"{target}/{file.name}") for file in files]
    return sorted(listed, key=lambda source: source.path)


def sources_in(folder: str, relative_to: str) -> list[str]:
    """Paths of the sources in `folder` of the tree, seen from the folder `relative_to`, for its CMake lists."""
    return [
        source.path.removeprefix(relative_to + "/") for source in sources() if source.path.rpartition("/")[0] == folder
    ]
