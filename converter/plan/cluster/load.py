"""What a planned model asks of each machine of a cluster, as llama.cpp spreads it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from converter.errors import OptionError
from converter.plan.cluster.placement import Load, Part
from converter.plan.memory import (
    PlannedFile,
    compute_bytes,
    kv_bytes_per_token,
    layer_compute_bytes,
    lookup_bytes,
    passing_bytes,
)
from converter.plan.plan import Plan
from gguf_files.header import align
from gguf_files.names import BLOCK, MOST_BLOCKS, OUTPUT, TOKEN_EMBEDDINGS, block_name
from gguf_files.source import Source

OUTPUT_PART = "output"
"""The part after the last block."""
_MOST_BYTES = 1 << 60
_OUTPUT_TENSORS = ("output.", "output_norm.", "cls.")


def cluster_load(plan: Plan, source: Source, context: int) -> Load:
    """The load of a plan, with the cache of `context` tokens.

    Embeddings stay on the first machine, even where the output is tied to them and has them once more; a block's cache
    lies beside it. Raises OptionError for an architecture whose cache is not known.
    """
    cache = kv_bytes_per_token(source)
    if cache is None:
        raise OptionError(
            f"the cache of {source.architecture} models is not known here, so memory cannot be counted and blocks not "
            "placed"
        )
    sizes: defaultdict[int, int] = defaultdict(int)
    embeddings = output = 0
    nbytes = {t.tensor.name: align(t.nbytes, source.alignment) for t in plan.tensors}
    for name, size in nbytes.items():
        if match := BLOCK.match(name):
            sizes[int(match["index"])] += size
        elif name.startswith(_OUTPUT_TENSORS):
            output += size
        else:
            embeddings += size
    if OUTPUT not in nbytes:
        output += nbytes.get(TOKEN_EMBEDDINGS, 0)
    blocks = max(source.number("{arch}.block_count") or 0, max(sizes, default=-1) + 1)
    computing = layer_compute_bytes(source)
    if blocks > MOST_BLOCKS or max(computing, compute_bytes(source), abs(cache) * context) > _MOST_BYTES:
        raise OptionError(
            f"the metadata tells of {blocks} blocks, with {cache} bytes in the cache for a token and {computing} for "
            f"computing, which llama.cpp does not run; mend {source.architecture}.block_count and its like"
        )
    parts = [Part(block_name(i), sizes[i], cache * context // blocks) for i in range(blocks)]
    parts.append(Part(OUTPUT_PART, output, compute_bytes(source) - computing))
    # the first machine passes on what it looks up, also where it has none of the parts
    return Load(
        tuple(parts),
        computing + passing_bytes(source, context),
        embeddings,
        lookup_bytes(source, context),
        PlannedFile.of(plan, source).file_bytes,
    )


@dataclass(frozen=True)
class LoadsByLevel:
    """Loads for any choice of levels, from those of the plans with one level for all blocks."""

    loads: Mapping[str, Load]
    parts: tuple[int, ...]
    """The part that each block is."""

    def check_monotone(self, steps: Sequence[str]) -> None:
        """Raise OptionError if a coarser level takes more than a finer one."""
        for finer, coarser in pairwise(steps):
            for a, b in zip(self.loads[finer].parts, self.loads[coarser].parts, strict=True):
                if a.weights < b.weights:
                    raise OptionError(
                        f"{a.name} takes more at {coarser} ({b.weights:,} bytes) than at {finer} ({a.weights:,}); "
                        "name other types with --level"
                    )

    def __call__(self, levels: Sequence[str]) -> Load:
        """Levels of the blocks, in their order."""
        one = next(iter(self.loads.values()))
        parts, file = list(one.parts), one.file
        for part, level in zip(self.parts, levels, strict=True):
            parts[part] = self.loads[level].parts[part]
            file += parts[part].weights - one.parts[part].weights
        return replace(one, parts=tuple(parts), file=file)
