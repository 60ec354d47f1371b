"""The edits that hook the EOQ types into llama.cpp, by layer."""

from ggml_patch.edit import Edit
from ggml_patch.edits import backends, core, cpu, cuda, gguf_py, llama, tests


def edits() -> list[Edit]:
    """All edits. Raises PatchError if sources of ours that they name are missing."""
    return [*core.edits(), *cpu.edits(), *backends.EDITS, *cuda.EDITS, *llama.EDITS, *gguf_py.EDITS, *tests.EDITS]


__all__ = ["edits"]
