"""Ways to choose types: within a budget, by entropy (EWQ, FastEWQ), by kind of layer. They make proposals."""

from converter.plan.planners.propose import Planned, make_proposals
from converter.plan.planners.requests import (
    Budget,
    BudgetRequest,
    EwqRequest,
    FastEwqRequest,
    PresetRequest,
    Request,
)

__all__ = [
    "Budget",
    "BudgetRequest",
    "EwqRequest",
    "FastEwqRequest",
    "Planned",
    "PresetRequest",
    "Request",
    "make_proposals",
]
