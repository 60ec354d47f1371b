"""Fetch a model or text into the cache and print where it is: `python -m material smollm2`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from material.kinds import KINDS
from material.models import minilm, smollm2, yardstick
from material.texts import calibration_text, code_text, evaluation_text, mixed_text
from terminal.tool import run_tool

MATERIAL: dict[str, Callable[[], Path]] = {
    "smollm2": smollm2,
    "minilm": minilm,
    "yardstick-135m": partial(yardstick, "135m"),
    "yardstick-0.5b": partial(yardstick, "0.5b"),
    "yardstick-1.5b": partial(yardstick, "1.5b"),
    "calibration-text": calibration_text,
    "code-text": code_text,
    "evaluation-text": evaluation_text,
    "mixed-text": mixed_text,
    # news is evaluation-text
    **{f"{kind}-text": text for kind, text in KINDS.items() if kind != "news"},
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m material", description=__doc__)
    parser.add_argument("name", choices=MATERIAL, help="what to fetch")
    return run_tool(lambda options: print(MATERIAL[options.name]()), parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
