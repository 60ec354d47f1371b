"""What planners propose: types for weights, before tensors that stay as they are and a user's overrides are heard."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from converter.plan.precision_levels import RAW
from converter.type_choice import TypeChoice
from gguf_files.tensors import TensorInfo


@dataclass(frozen=True)
class Proposal:
    """A type for a weight."""

    type: TypeChoice | None
    """None: the type that it has in the source."""
    why: str

    @property
    def name(self) -> str:
        """Name of the type, as in a plan file."""
        return self.type.name if self.type else RAW


@dataclass(frozen=True)
class Rule:
    """A proposal for all weights whose GGUF name the pattern is found in."""

    pattern: str
    proposal: Proposal

    def matches(self, tensor_name: str) -> bool:
        return self._expression.search(tensor_name) is not None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        """re itself keeps 512 of them."""
        return re.compile(self.pattern)


@dataclass(frozen=True)
class Proposals:
    """Proposals by name, then by the first rule that matches."""

    planner: str
    """Name of what made them."""
    tensors: Mapping[str, Proposal] = field(default_factory=dict)
    rules: Sequence[Rule] = ()

    def __call__(self, tensor: TensorInfo) -> Proposal | None:
        """The proposal for a weight; None where there is none."""
        if tensor.name in self.tensors:
            return self.tensors[tensor.name]
        return next((rule.proposal for rule in self.rules if rule.matches(tensor.name)), None)

    @property
    def digest(self) -> str:
        """Tells proposals apart: of the types alone, not of the reasons."""
        named = [f"{name}={proposal.name}" for name, proposal in self.tensors.items()]
        by_rule = [f"{rule.pattern}={rule.proposal.name}" for rule in self.rules]
        return hashlib.sha256("\n".join([*named, "", *by_rule]).encode()).hexdigest()[:12]
