"""Which type each tensor gets."""

from converter.plan.plan import Plan, TensorPlan
from converter.plan.plan_file import as_plan_file, read_plan_file
from converter.plan.proposals import Proposal, Proposals, Rule
from converter.plan.resolve import resolve_plan

__all__ = [
    "Plan",
    "Proposal",
    "Proposals",
    "Rule",
    "TensorPlan",
    "as_plan_file",
    "read_plan_file",
    "resolve_plan",
]
