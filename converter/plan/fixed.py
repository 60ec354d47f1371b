"""From options and proposals to a plan: who is heard first, and what cannot be had.

Without proposals it is the plan that needs no measurements: one type for all weights, another for the output, and the
user's overrides.
"""

from collections import Counter
from collections.abc import Sequence

from converter.errors import OptionError
from converter.options import ConversionOptions, TensorTypeOverride
from converter.plan.kept import keep_reason
from converter.plan.plan import Plan, TensorPlan
from converter.plan.proposals import Proposals
from converter.tensor_types import TypeChoice, eoq_type, require_type_for_row, type_for_any_row
from converter.tensors import TensorInfo
from eoq_formats.types import WeightType, weight_type

OUTPUT = "output.weight"
TOKEN_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")


class FixedPlanner:
    """Types by the options, and for what they do not name by the proposals."""

    def __init__(self, options: ConversionOptions, proposals: Proposals | None = None) -> None:
        self.options = options
        self.proposals = proposals

    def plan(self, tensors: Sequence[TensorInfo], architecture: str) -> Plan:
        """Raises OptionError for an override or proposal that is for no weight, or an override that fits no rows."""
        tied = all(t.name != OUTPUT for t in tensors)
        kept = {t.name: reason for t in tensors if (reason := keep_reason(t, architecture)) is not None}
        for override in self.options.overrides:
            _check_override(override, tensors, kept)
        if self.proposals is not None:
            _check_proposals(self.proposals, tensors)
        plans = tuple(
            TensorPlan(t, t.type, kept[t.name]) if t.name in kept else self._plan_weight(t, tied) for t in tensors
        )
        return Plan(plans, self._file_type(plans))

    def _file_type(self, plans: Sequence[TensorPlan]) -> WeightType:
        """The type that most weights have, where there are proposals; else the one that was asked for."""
        weights: Counter[WeightType] = Counter()
        for plan in plans:
            if self.proposals is not None and (eoq := eoq_type(plan.type)) is not None:
                weights[eoq] += plan.tensor.weights
        return weights.most_common(1)[0][0] if weights else weight_type(self.options.weights.name)

    def _plan_weight(self, tensor: TensorInfo, tied: bool) -> TensorPlan:
        asked, why = self._asked_type(tensor.name, tied)
        if asked is not None:
            return TensorPlan(tensor, require_type_for_row(asked, tensor.name, tensor.row_length), why)
        if self.proposals is not None and (proposal := self.proposals(tensor)) is not None:
            if proposal.type is None:
                return TensorPlan(tensor, tensor.type, proposal.why)
            found, fallback = type_for_any_row(proposal.type, tensor.row_length)
            return TensorPlan(tensor, found, fallback or proposal.why, bool(fallback))
        is_output = tensor.name == OUTPUT or (tied and tensor.name == TOKEN_EMBEDDINGS[0])
        choice = self.options.default_output if is_output else self.options.weights
        found, fallback = type_for_any_row(choice, tensor.row_length)
        return TensorPlan(tensor, found, fallback or ("output" if is_output else "weight"), bool(fallback))

    def _asked_type(self, name: str, tied: bool) -> tuple[TypeChoice | None, str]:
        """The type that an option names for a tensor, and that option."""
        for override in self.options.overrides:
            if override.matches(name):
                return override.type, f"--tensor-type {override.text}"
        if name in TOKEN_EMBEDDINGS and self.options.token_embd:
            return self.options.token_embd, "--token-embd-type"
        if name == OUTPUT or (tied and name == TOKEN_EMBEDDINGS[0]):
            return self.options.output, "--output-type"
        return None, ""


def _check_override(override: TensorTypeOverride, tensors: Sequence[TensorInfo], kept: dict[str, str]) -> None:
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
