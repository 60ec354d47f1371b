"""From options and proposals to a plan: who is heard first, and what cannot be had.

Without proposals it is the plan that needs no measurements: one type for all weights, another for the output, and the
user's overrides.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from converter.errors import OptionError
from converter.options import TensorTypeOverride, TypeOptions
from converter.plan.keep_rules import keep_reason
from converter.plan.plan import Plan, TensorPlan
from converter.plan.proposals import Proposals
from converter.type_choice import TypeChoice, require_type_for_row, type_for_any_row
from eoq_formats.types import WeightType, weight_type
from gguf_files.names import OUTPUT, PER_LAYER_TOKEN_EMBEDDINGS, TOKEN_EMBEDDINGS
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo


def resolve_plan(
    tensors: Sequence[TensorInfo], architecture: str, types: TypeOptions, proposals: Proposals | None = None
) -> Plan:
    """Types by the options, and for what they do not name by the proposals.

    Raises OptionError for an override or proposal that is for no weight, or an override that fits no rows.
    """
    tied = all(t.name != OUTPUT for t in tensors)
    kept = {t.name: reason for t in tensors if (reason := keep_reason(t, architecture)) is not None}
    for override in types.overrides:
        _check_override(override, tensors, kept)
    if proposals is not None:
        _check_proposals(proposals, tensors)
    plans = tuple(
        TensorPlan(t, t.type, kept[t.name]) if t.name in kept else _plan_weight(t, tied, types, proposals)
        for t in tensors
    )
    return Plan(plans, _file_type(plans, types, proposals))


def _file_type(plans: Sequence[TensorPlan], types: TypeOptions, proposals: Proposals | None) -> WeightType:
    """The type that most weights have, where there are proposals; else the one that was asked for."""
    weights: Counter[WeightType] = Counter()
    for plan in plans:
        if proposals is not None and (eoq := eoq_type(plan.type)) is not None:
            weights[eoq] += plan.tensor.weights
    return weights.most_common(1)[0][0] if weights else weight_type(types.weights.name)


def _plan_weight(tensor: TensorInfo, tied: bool, types: TypeOptions, proposals: Proposals | None) -> TensorPlan:
    is_output = tensor.name == OUTPUT or (tied and tensor.name == TOKEN_EMBEDDINGS)
    asked, why = _asked_type(tensor.name, is_output, types)
    if asked is not None:
        return TensorPlan(tensor, require_type_for_row(asked, tensor.name, tensor.row_length), why, is_fixed=True)
    if proposals is not None and (proposal := proposals(tensor)) is not None:
        if proposal.type is None:
            return TensorPlan(tensor, tensor.type, proposal.why)
        t, fallback = type_for_any_row(proposal.type, tensor.row_length, tensor.type)
        return TensorPlan(tensor, t, fallback or proposal.why, bool(fallback))
    choice = types.default_output if is_output else types.weights
    t, fallback = type_for_any_row(choice, tensor.row_length, tensor.type)
    return TensorPlan(tensor, t, fallback or ("output" if is_output else "weight"), bool(fallback))


def _asked_type(name: str, is_output: bool, types: TypeOptions) -> tuple[TypeChoice | None, str]:
    """The type that an option names for a tensor, and that option."""
    if (override := types.override_of(name)) is not None:
        return override.type, f"--tensor-type {override.text}"
    if name in (TOKEN_EMBEDDINGS, PER_LAYER_TOKEN_EMBEDDINGS) and types.token_embd:
        return types.token_embd, "--token-embd-type"
    return (types.output, "--output-type") if is_output else (None, "")


def _check_override(override: TensorTypeOverride, tensors: Sequence[TensorInfo], kept: Mapping[str, str]) -> None:
    matched = [t.name for t in tensors if override.matches(t.name)]
    if not matched:
        raise OptionError(f"--tensor-type {override.text} matches no tensor of the model (such as {tensors[-1].name})")
    if all(name in kept for name in matched):
        name = matched[0]
        raise OptionError(
            f"--tensor-type {override.text} matches only tensors that stay as they are: {name} ({kept[name]})"
        )


def _check_proposals(proposals: Proposals, tensors: Sequence[TensorInfo]) -> None:
    names = {t.name for t in tensors}
    if unknown := [name for name in proposals.tensors if name not in names]:
        raise OptionError(
            f"the plan names tensor {unknown[0]}, which the model does not have (but {tensors[-1].name}); "
            "make a plan for this model"
        )
    for rule in proposals.rules:
        if not any(rule.matches(name) for name in names):
            raise OptionError(f"the plan's rule {rule.pattern!r} matches no tensor of the model; mend or remove it")
