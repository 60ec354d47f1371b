"""The tree's own gguf Python package: its tools can read and list EOQ files."""

from eoq_formats.types import Q8_EOQ, Q8_EOQ_64
from ggml_patch.edit import Edit
from ggml_patch.edits.weight_types import each

_CONSTANTS = "gguf-py/gguf/constants.py"

EDITS = [
    Edit(
        path=_CONSTANTS,
        anchor=r"^    Q1_0 +=",
        within=r"^class GGMLQuantizationType\(",
        lines=f"""
{each("    {T:<7} = {id}")}
    Q8_EOQ  = {Q8_EOQ.id}
    Q8_EOQ_64 = {Q8_EOQ_64.id}
""",
    ),
    Edit(
        path=_CONSTANTS,
        anchor=r"^    MOSTLY_Q1_0 +=",
        within=r"^class LlamaFileType\(",
        lines=each("    MOSTLY_{T:<13} = {id}  # except 1d tensors"),
    ),
    Edit(
        path=_CONSTANTS,
        anchor=r"^    GGMLQuantizationType\.Q1_0:",
        lines=f"""
{each("    GGMLQuantizationType.{T}: ({width}, {bytes}),")}
    GGMLQuantizationType.Q8_EOQ: (128, 4 + 4 + 128),
    GGMLQuantizationType.Q8_EOQ_64: (64, 4 + 4 + 64),
""",
    ),
]
