"""A plan from end to end: opens the model, asks the planner, places blocks on machines; what is shown and written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import OptionError
from converter.ingest import HubModel, local_path, model_files, named_model, open_model
from converter.ingest.hub import fetch_config, model_name
from converter.options import SourceAccess, TypeOptions, check_threads
from converter.plan import Plan, Proposals, as_plan_file, resolve_plan
from converter.plan.cluster import ClusterPlan, Machine, plan_cluster
from converter.plan.cluster.tables import as_json, cluster_commands, cluster_lines
from converter.plan.memory import PlannedFile
from converter.plan.planners import BudgetRequest, EwqRequest, FastEwqRequest, Planned, Request, make_proposals
from converter.plan.planners.fastewq.blocks import BlockShape, blocks_of_config
from converter.plan.planners.propose import propose_by_shape
from converter.plan.planners.tables import block_lines, ewq_entries, kind_lines
from converter.plan.tables import size_lines, tensor_lines
from converter.statistics import open_statistics
from output_files.target import check_not_input, check_outputs
from terminal.progress import Progress


@dataclass(frozen=True)
class ModelPlan:
    """What was planned for a model."""

    model_path: Path
    file_name: str
    """Name of the source GGUF."""
    architecture: str
    request: Request
    planned: Planned
    cluster: ClusterPlan | None
    proposals: Proposals
    """What the planner proposed, or what the cluster made of it."""
    plan: Plan
    file: PlannedFile

    def lines(self, context: int, *, all_tensors: bool, plan_path: Path | None) -> list[str]:
        """For people: blocks, tensors or kinds of them, sizes, and what to run on a cluster."""
        lines = []
        if self.planned.decisions is not None:
            levels = self.cluster.fitted.levels if self.cluster else ()
            lines += [*block_lines(self.planned.blocks, self.planned.decisions, levels), ""]
        if all_tensors:
            lines += [*tensor_lines(self.file), ""]
        elif isinstance(self.request, BudgetRequest):
            lines += [*kind_lines(self.proposals, [t.tensor for t in self.plan.tensors]), ""]
        lines += size_lines(self.file, context)
        if self.cluster:
            lines += ["", *cluster_lines(self.cluster), "", *self.commands(plan_path)]
        return lines

    def commands(self, plan_path: Path | None) -> list[str]:
        """What to run on which machine of the cluster."""
        assert self.cluster is not None
        return cluster_commands(self.cluster, self.model_path, plan_path)

    def as_plan_file(self, plan_path: Path | None) -> dict[str, Any]:
        """JSON's objects for a file that `read_plan_file` reads, with what led to the plan."""
        extra: dict[str, Any] = {"model": self.file_name, "architecture": self.architecture}
        if self.planned.decisions is not None:
            request = self.request
            # for EWQ alone there are decisions
            assert isinstance(request, EwqRequest)
            extra |= {"variant": request.variant, "x": request.x, "epsilon": request.epsilon}
            extra |= ewq_entries(self.planned.blocks, self.planned.decisions)
        if self.cluster:
            extra["cluster"] = {**as_json(self.cluster), "commands": self.commands(plan_path)}
        return as_plan_file(self.proposals, extra)


@dataclass(frozen=True)
class ShapePlan:
    """What FastEWQ makes of a `config.json` alone."""

    config: Path
    variant: str
    blocks: Sequence[BlockShape]
    levels: Sequence[str]
    proposals: Proposals

    def lines(self, context: int, *, all_tensors: bool, plan_path: Path | None) -> list[str]:
        """A line for each block."""
        entries = zip(self.blocks, self.levels, strict=True)
        return [
            f"{'block':<12} {'weights':>13}  level",
            *(f"{block.name:<12} {block.parameters:>13,}  {level}" for block, level in entries),
        ]

    def as_plan_file(self, plan_path: Path | None) -> dict[str, Any]:
        """JSON's objects for a file that `read_plan_file` reads."""
        return as_plan_file(self.proposals, {"model": model_name(self.config.parent), "variant": self.variant})


def plan_model(
    model: Path | str,
    request: Request,
    types: TypeOptions,
    access: SourceAccess,
    threads: int,
    progress: Progress,
    *,
    machines: Sequence[Machine] = (),
    context: int = 4096,
    outputs: Sequence[Path] = (),
    needs_tensors: bool = False,
) -> ModelPlan | ShapePlan:
    """Plan for a Hugging Face folder or GGUF file, for a cluster where there are machines. Raises EoqError.

    Text may name a model of the Hugging Face Hub (`converter.ingest.named_model`). FastEWQ plans for folders, models of
    the hub, and a `config.json` by itself, without their weights, unless it `needs_tensors`. `outputs` are the files
    that the caller writes: none of them may be an input.
    """
    check_threads(threads)
    named = named_model(model, access.revision)
    check_outputs(outputs, _inputs(named, request))
    if isinstance(request, BudgetRequest) and request.statistics is not None and request.statistics.exists():
        open_statistics(request.statistics)  # what is damaged is refused before the model is looked at
    if isinstance(request, FastEwqRequest) and (
        isinstance(named, HubModel) or named.is_dir() or named.suffix == ".json"
    ):
        if needs_tensors or types.tensor_types or machines:
            raise OptionError(
                "--plot, --table, --tensor-type and --machine need the tensors of the model; give its GGUF"
            )
        if isinstance(named, HubModel):
            config = fetch_config(named)
        else:
            config = named / "config.json" if named.is_dir() else named
        blocks = blocks_of_config(config)
        proposals, levels = propose_by_shape(blocks, request)
        return ShapePlan(config, request.variant, blocks, levels, proposals)
    beside = outputs[0] if outputs else Path.cwd() / "plan.json"
    model_path = local_path(named, access, beside.absolute().parent, progress)
    check_outputs(outputs, model_files(model_path))
    with open_model(model_path, beside, access, threads, progress) as source:
        for output in outputs:
            check_not_input(output, source.paths)
        planned = make_proposals(source, request, types, threads, progress)
        cluster = plan_cluster(source, planned, machines, context, types) if machines else None
        proposals = cluster.proposals if cluster else planned.proposals
        plan = resolve_plan(source.tensors, source.architecture, types, proposals)
        file = PlannedFile.of(plan, source)
        return ModelPlan(
            model_path, source.paths[0].name, source.architecture, request, planned, cluster, proposals, plan, file
        )


def _inputs(named: Path | HubModel, request: Request) -> list[Path | None]:
    inputs: list[Path | None] = [*model_files(named)] if isinstance(named, Path) else []
    if isinstance(request, BudgetRequest):
        inputs += [request.statistics]
    if isinstance(request, FastEwqRequest):
        inputs.append(request.dataset)
    return inputs
