"""The tree's own gguf Python package: its tools can read and list EOQ files."""

from ggml_patch.edit import Edit
from ggml_patch.edits.weight_types import each, each_activation

_CONSTANTS = "gguf-py/gguf/constants.py"

EDITS = [
    Edit(
        path=_CONSTANTS,
        anchor=r"^    Q1_0 +=",
        within=r"^class GGMLQuantizationType\(",
        lines=f"""
{each("    {T:<7} = {id}")}
{each_activation("    {T:<7} = {id}")}
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
{each_activation("    GGMLQuantizationType.{T}: ({width}, 4 + 4 + {width}),")}
""",
    ),
]
