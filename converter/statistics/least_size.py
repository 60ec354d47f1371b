"""How much room statistics will take, known before there are any."""

from collections.abc import Iterable

from converter.statistics.triangle import packed_length


def least_size(matrices: Iterable[tuple[str, int, int]]) -> int:
    """Bytes of statistics of a model's matrices at the least: name, row length and number of experts of each.

    Names are those of a GGUF or of a Hugging Face folder. What belongs to one part of a block, such as its attention,
    and has rows of one length is counted as if it had one input. Embeddings have none.
    """
    inputs = {
        (_part(name), row_length, experts): experts * 4 * (packed_length(row_length) + row_length)
        for name, row_length, experts in matrices
        if "embd" not in name and "embed" not in name
    }
    return sum(inputs.values())


def _part(name: str) -> str:
    """`blk.0.attn` of `blk.0.attn_q.weight`, `model.layers.0.self_attn` of `model.layers.0.self_attn.q_proj.weight`."""
    block, _, last = name.removesuffix(".weight").rpartition(".")
    return f"{block}.{last.partition('_')[0]}" if block.startswith(("blk.", "enc.", "dec.")) else block
