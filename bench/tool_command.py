"""The project's own tools as benchmarks start them: in processes of their own, as users do."""

import sys
from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1] / "tools"


def tool_command(name: str, *arguments: str | Path) -> list[str]:
    """The command line of a tool, such as `convert_eoq.py`."""
    return [sys.executable, str(_TOOLS / name), *map(str, arguments)]
