"""Policies by kind of layer and by depth, under a name each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from converter.errors import OptionError
from converter.plan.blocks import blocks_of
from converter.plan.precision_levels import LADDERS
from converter.plan.proposals import Proposal, Proposals, Rule
from converter.type_choice import parse_type
from gguf_files.tensors import TensorInfo

_ENDS = 8
"""One block in so many is at either end."""

Steps = Sequence[tuple[str, int]]
"""Patterns of GGUF names, and how many steps finer (or coarser, below zero) than the base these weights are."""


@dataclass(frozen=True)
class Preset:
    description: str
    """One line."""
    steps: Callable[[Sequence[str]], Steps]
    """The preset's steps for the names of the blocks, in the model's order."""


def _blocks(names: Sequence[str]) -> str:
    """A pattern for all matrices of these blocks."""
    return "^(" + "|".join(name.replace(".", r"\.") for name in names) + r")\."


def _ends(blocks: Sequence[str]) -> Steps:
    count = max(1, len(blocks) // _ENDS)
    return [(_blocks([*blocks[:count], *blocks[-count:]]), 1)]


def _progressive(blocks: Sequence[str]) -> Steps:
    third = len(blocks) // 3
    parts = [(blocks[:third], 1), (blocks[len(blocks) - third :], -1)]
    return [(_blocks(part), step) for part, step in parts if part]


PRESETS = {
    "uniform": Preset("every weight of the blocks in the base type", lambda blocks: []),
    "attention": Preset("attention one step finer than the feed-forward network", lambda blocks: [(r"\.attn_", 1)]),
    "feed-forward": Preset("the feed-forward network one step finer than attention", lambda blocks: [(r"\.ffn_", 1)]),
    "down": Preset(
        "matrices that write into the residual stream (attention's output, ffn_down) one step finer",
        lambda blocks: [(r"\.(attn_output|ffn_down)", 1)],
    ),
    "ends": Preset("the first and the last eighth of the blocks one step finer", _ends),
    "progressive": Preset(
        "the first third of the blocks one step finer, the last third one step coarser", _progressive
    ),
    "embeddings": Preset(
        "embeddings and output two steps finer than the blocks", lambda blocks: [(r"^(token_embd|output)\.weight$", 2)]
    ),
}


def step_from(base: str, steps: int) -> str:
    """The type so many steps of the ladder finer than an EOQ type; its width stays, and the ladder's ends end it."""
    stem, separator, width = base.partition("_")
    ladder = next((ladder for ladder in LADDERS.values() if stem in ladder), None)
    if ladder is None:
        known = dict.fromkeys(name for ladder in LADDERS.values() for name in ladder if name.startswith("eoq"))
        raise OptionError(f"presets start from an EOQ type, not from {base!r}; choose one of {', '.join(known)}")
    stem_type = ladder[min(max(ladder.index(stem) + steps, 0), len(ladder) - 1)]
    return stem_type + separator + width if stem_type.startswith("eoq") else stem_type


def propose_preset(name: str, base: str, tensors: Sequence[TensorInfo], architecture: str) -> Proposals:
    """Rules of a preset around a base type. Raises OptionError or UnknownTypeError."""
    if name not in PRESETS:
        raise OptionError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    base = base.strip().lower()
    blocks = list(blocks_of(tensors, architecture))
    if not blocks:
        raise OptionError("the model has no blocks (blk.N) that a preset could be for; use --tensor-type")
    rules = []
    for pattern, steps in PRESETS[name].steps(blocks):
        why = f"{name}: {abs(steps)} {'finer' if steps > 0 else 'coarser'} than {base}"
        rules.append(Rule(pattern, Proposal(parse_type(step_from(base, steps)), why)))
    rules.append(Rule(_blocks(blocks), Proposal(parse_type(base), f"{name}: the base")))
    return Proposals(f"preset {name}", rules=rules)
