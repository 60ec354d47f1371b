"""From a plan to a cluster: precision and place of every block."""

from collections.abc import Sequence
from dataclasses import dataclass

from converter.errors import OptionError
from converter.options import TypeOptions
from converter.plan import Proposals, resolve_plan
from converter.plan.blocks import block_order
from converter.plan.cluster.fit import Fitted, fit
from converter.plan.cluster.load import LoadsByLevel, cluster_load
from converter.plan.cluster.machines import Machine
from converter.plan.cluster.placement import Load, place
from converter.plan.planners.propose import BlockLevels, Planned, with_overrides
from gguf_files.source import Source


@dataclass(frozen=True)
class ClusterPlan:
    """Where everything goes."""

    machines: tuple[Machine, ...]
    context: int
    load: Load
    fitted: Fitted
    proposals: Proposals


def plan_cluster(
    source: Source, planned: Planned, machines: Sequence[Machine], context: int, types: TypeOptions
) -> ClusterPlan:
    """Spread a planned model over machines, changing the blocks' precision where the planner knows how.

    Raises OptionError where nothing fits.
    """
    rooms = [machine.room for machine in machines]
    if planned.levels is None:
        load = _load(source, planned.proposals, context, types)
        shares = place(load, rooms)
        if shares is None:
            raise OptionError(_nothing_fits(load, machines, "as it is planned"))
        return ClusterPlan(tuple(machines), context, load, Fitted((), shares, "the plan fits"), planned.proposals)
    levels = planned.levels
    loads = LoadsByLevel(
        {
            level: _load(source, levels.propose([level] * len(levels.blocks)), context, types)
            for level in levels.precisions.steps
        },
        _parts(levels),
    )
    loads.check_monotone(levels.precisions.steps)
    fitted = fit(levels.precisions, loads, rooms)
    if fitted is None:
        coarsest = levels.precisions.steps[-1]
        least = loads([coarsest] * len(levels.blocks))
        raise OptionError(_nothing_fits(least, machines, f"even with all blocks at {coarsest}"))
    proposals = with_overrides(levels.propose(fitted.levels), source, types)
    return ClusterPlan(tuple(machines), context, loads(fitted.levels), fitted, proposals)


def _load(source: Source, proposals: Proposals, context: int, types: TypeOptions) -> Load:
    plan = resolve_plan(source.tensors, source.architecture, types, proposals)
    return cluster_load(plan, source, context)


def _parts(levels: BlockLevels) -> tuple[int, ...]:
    indices = [block_order(name)[1] for name in levels.blocks]
    if len(set(indices)) < len(levels.blocks):
        raise OptionError("models with an encoder and a decoder cannot be placed on a cluster; plan without --machine")
    return tuple(indices)


def _nothing_fits(load: Load, machines: Sequence[Machine], how: str) -> str:
    """What is too large, and for which machine."""
    first = machines[0]
    start = f"the model does not fit on the machines, {how}: "
    if first.room.disk is not None and load.file > first.room.disk:
        return start + (
            f"the file takes {_mb(load.file)}, and {first.address}, which reads it, has {_mb(first.room.disk)} of disk"
        )
    if load.first > first.room.memory:
        return start + (
            f"the embeddings take {_mb(load.first)} of memory with buffers, and {first.address}, where they stay, has "
            f"{_mb(first.room.memory)}"
        )
    needed = load.first + sum(part.memory for part in load.parts)
    there = sum(machine.room.memory for machine in machines)
    return start + (
        f"it takes {_mb(needed)} of memory and {_mb(load.buffers)} more for computing on each machine, its largest "
        f"block {_mb(max(part.memory for part in load.parts))}, and there are {_mb(there)} on {len(machines)}; add a "
        "machine, or memory or disk of one, or ask for less --context"
    )


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB"
