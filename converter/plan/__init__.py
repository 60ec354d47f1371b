"""Which type each tensor gets."""

from converter.plan.fixed import FixedPlanner
from converter.plan.plan import Plan, Planner, TensorPlan
from converter.plan.plan_file import as_plan_file, read_plan_file
from converter.plan.proposals import Proposal, Proposals, Rule

__all__ = [
    "FixedPlanner",
    "Plan",
    "Planner",
    "Proposal",
    "Proposals",
    "Rule",
    "TensorPlan",
    "as_plan_file",
    "read_plan_file",
]
