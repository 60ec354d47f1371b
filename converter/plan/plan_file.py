"""Plans as files that a person can edit: JSON, or TOML for reading.

    {"format": "eoq-plan", "version": 1, "planner": "ewq",
     "rules": [{"match": "ffn_down", "type": "eoq5", "why": "…"}],
     "tensors": {"blk.0.attn_q.weight": {"type": "eoq4", "why": "…"}, "blk.0.attn_k.weight": "raw"}}

`tensors` go before `rules`, of which the first that matches wins. What neither names gets the types of the options. All
other keys are for the reader alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.errors import OptionError
from converter.plan.precision_levels import RAW
from converter.plan.proposals import Proposal, Proposals, Rule
from converter.type_choice import parse_type
from eoq_formats.errors import UnknownTypeError
from input_files.expressions import check_expression
from input_files.structured import read_json, read_toml

FORMAT = "eoq-plan"
VERSION = 1
MOST_RULES = 1024


def as_plan_file(proposals: Proposals, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What `read_plan_file` reads, as JSON's objects, with whatever else is of interest."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "planner": proposals.planner,
        **extra,
        "rules": [{"match": rule.pattern, **_entry(rule.proposal)} for rule in proposals.rules],
        "tensors": {name: _entry(proposal) for name, proposal in proposals.tensors.items()},
    }


def _entry(proposal: Proposal) -> dict[str, str]:
    return {"type": proposal.name, "why": proposal.why}


def read_plan_file(path: Path) -> Proposals:
    """Read a plan, TOML where the name ends so. Raises OptionError that says what is wrong where."""
    read = read_toml if path.suffix.lower() == ".toml" else read_json
    return _Reader(path).proposals(read(path, OptionError, "the plan"))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def proposals(self, content: object) -> Proposals:
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise self._error(f'it is no plan: its "format" is not "{FORMAT}"')
        if content.get("version") != VERSION:
            raise self._error(f"its version is {content.get('version')!r}, and this program reads version {VERSION}")
        planner, tensors, rules = content.get("planner", "file"), content.get("tensors", {}), content.get("rules", [])
        if not isinstance(planner, str) or not isinstance(tensors, dict) or not isinstance(rules, list):
            raise self._error('"planner" must be text, "tensors" a table and "rules" a list')
        if len(rules) > MOST_RULES:
            raise self._error(f"it has {len(rules)} rules, all tried on every tensor; give {MOST_RULES} at most")
        if not tensors and not rules:
            raise self._error("it names no tensors and no rules")
        named = {name: self._proposal(f"tensor {name}", entry) for name, entry in tensors.items()}
        return Proposals(planner, named, [self._rule(i, entry) for i, entry in enumerate(rules, 1)])

    def _rule(self, number: int, entry: object) -> Rule:
        if not isinstance(entry, dict) or not isinstance(entry.get("match"), str):
            raise self._error(f'rule {number} has no "match" with an expression for names')
        check_expression(entry["match"], OptionError, f"the plan {self.path}: rule {number}")
        return Rule(entry["match"], self._proposal(f"rule {number}", entry))

    def _proposal(self, what: str, entry: object) -> Proposal:
        """From a table with a type and perhaps a reason, or from the type alone."""
        if isinstance(entry, str):
            entry = {"type": entry}
        name = entry.get("type") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(name, str):
            raise self._error(f'{what} has no "type"')
        try:
            choice = None if name.strip().lower() == RAW else parse_type(name)
        except UnknownTypeError as e:
            raise self._error(f"{what}: {e}") from None
        why = entry.get("why")
        return Proposal(choice, why if isinstance(why, str) else f"plan {self.path.name}")

    def _error(self, text: str) -> OptionError:
        return OptionError(f"the plan {self.path}: {text}")
