"""The edits that hook the EOQ types into llama.cpp, by layer."""

from ggml_patch.edit import Edit
from ggml_patch.edits import backends, core, cpu, cuda, gguf_py, llama, programs, tests, vulkan


def edits() -> list[Edit]:
    """All edits. Raises PatchError if sources of ours that they name are missing."""
    last = (*llama.EDITS, *gguf_py.EDITS, *programs.EDITS, *tests.EDITS)
    return [*core.edits(), *cpu.edits(), *backends.EDITS, *cuda.EDITS, *vulkan.EDITS, *last]


__all__ = ["edits"]
