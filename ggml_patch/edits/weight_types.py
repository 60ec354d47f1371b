"""The ten weight types, for edits that list them. `eoq_formats/types.py` has the table; a test holds the two equal."""

BITS = (2, 3, 4, 5, 6)
WIDTHS = (128, 64)

Q8_EOQ_ID = 168
Q8_EOQ_64_ID = 178
TYPE_COUNT = 192


def each(template: str) -> str:
    """`template` once a type, a line each; it may use {T} {t} {id} {bits} {width} {bytes} {bpw}."""
    return "\n".join(
        template.format(
            T=f"EOQ{bits}" if width == 128 else f"EOQ{bits}_64",
            t=f"eoq{bits}" if width == 128 else f"eoq{bits}_64",
            id=(160 if width == 128 else 170) + bits,
            bits=bits,
            width=width,
            bytes=2 + bits * width // 8,
            bpw=bits + 16 / width,
        )
        for width in WIDTHS
        for bits in BITS
    )
