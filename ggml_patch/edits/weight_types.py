"""The types, for edits that list them: the table of eoq_formats.types as text."""

from eoq_formats.types import ACTIVATION_TYPES, WEIGHT_TYPES

TYPE_COUNT = 192
"""GGML_TYPE_COUNT of a patched tree, above all ids."""


def each(template: str) -> str:
    """`template` once a type, a line each; it may use {T} {t} {id} {bits} {width} {bytes} {bpw}."""
    return "\n".join(
        template.format(
            T=t.name,
            t=t.name.lower(),
            id=t.id,
            bits=t.bits,
            width=t.width,
            bytes=t.block_bytes,
            bpw=t.bits_per_weight,
        )
        for t in WEIGHT_TYPES
    )


def each_activation(template: str) -> str:
    """`template` once an activation type, a line each; it may use {T} {id} {width}."""
    return "\n".join(template.format(T=t.name, id=t.id, width=t.width) for t in ACTIVATION_TYPES)
