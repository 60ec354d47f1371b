"""The plan that needs no measurements: one type for all weights, another for the output, and the user's overrides."""

from collections.abc import Sequence

from converter.errors import OptionError
from converter.options import ConversionOptions, TensorTypeOverride
from converter.plan.kept import keep_reason
from converter.plan.plan import Plan, TensorPlan
from converter.tensor_types import TypeChoice, require_type_for_row, type_for_any_row
from converter.tensors import TensorInfo
from eoq_formats.types import weight_type

OUTPUT = "output.weight"
TOKEN_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")


class FixedPlanner:
    """Types by the options alone."""

    def __init__(self, options: ConversionOptions) -> None:
        self.options = options

    def plan(self, tensors: Sequence[TensorInfo], architecture: str) -> Plan:
        """Raises OptionError for an override that matches no weight, or whose type does not fit the rows."""
        tied = all(t.name != OUTPUT for t in tensors)
        kept = {t.name: reason for t in tensors if (reason := keep_reason(t, architecture)) is not None}
        for override in self.options.overrides:
            _check_override(override, tensors, kept)
        plans = tuple(
            TensorPlan(t, t.type, kept[t.name]) if t.name in kept else self._plan_weight(t, tied) for t in tensors
        )
        return Plan(plans, weight_type(self.options.weights.name))

    def _plan_weight(self, tensor: TensorInfo, tied: bool) -> TensorPlan:
        asked, why = self._asked_type(tensor.name, tied)
        if asked is not None:
            return TensorPlan(tensor, require_type_for_row(asked, tensor.name, tensor.row_length), why)
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
