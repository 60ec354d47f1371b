"""Programs of our own."""

from ggml_patch.edit import Edit

EDITS = [
    Edit(
        path="tools/CMakeLists.txt",
        anchor=r"^ +add_subdirectory\(imatrix\)$",
        lines="    add_subdirectory(check)\n    add_subdirectory(moments)",
    ),
]
