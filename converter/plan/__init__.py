"""Which type each tensor gets."""

from converter.plan.fixed import FixedPlanner
from converter.plan.plan import Plan, Planner, TensorPlan

__all__ = ["FixedPlanner", "Plan", "Planner", "TensorPlan"]
