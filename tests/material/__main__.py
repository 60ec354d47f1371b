"""Fetch a model or text into the cache and print where it is: `python -m tests.material smollm2`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ggml_patch.errors import FetchError
from tests.material.models import minilm, smollm2, yardstick
from tests.material.texts import calibration_text, code_text, evaluation_text, mixed_text

MATERIAL: dict[str, Callable[[], Path]] = {
    "smollm2": smollm2,
    "minilm": minilm,
    "yardstick-0.5b": partial(yardstick, "0.5b"),
    "yardstick-1.5b": partial(yardstick, "1.5b"),
    "calibration-text": calibration_text,
    "code-text": code_text,
    "evaluation-text": evaluation_text,
    "mixed-text": mixed_text,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.material", description=__doc__)
    parser.add_argument("name", choices=MATERIAL, help="what to fetch")
    name = parser.parse_args().name
    try:
        print(MATERIAL[name]())
    except (FetchError, OSError, ValueError) as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
