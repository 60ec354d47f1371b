"""What the command lines have in common: options of calibration, and how a tool ends."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from converter import CalibrationOptions

# after each product OpenBLAS's threads wait for the next one busily, on the cores that torch's are at work on by then
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def add_calibration_options(group: argparse._ActionsContainer) -> None:
    """Those that `calibration_options` reads."""
    add = group.add_argument
    add("--calib", metavar="FILE", type=Path, help="text to calibrate on (default: a mixture that comes with EOQ)")
    add("--calib-tokens", type=int, metavar="N", help="most tokens of it (default: 32768)")
    add("--calib-length", type=int, metavar="N", help="tokens in a sequence (default: 512)")
    add("--calib-seed", type=int, metavar="N", help="chooses the sequences of a longer text (default: 0)")
    add("--calib-dtype", choices=("float32", "bfloat16"), help="to run the model's matrices in (default: float32)")
    add("--calib-memory", type=float, metavar="GIB", help="for sums of moments at a time (default: 4)")
    add("--all-experts", action="store_true", help="let every expert of a mixture see every token when calibrating")
    add("--device", metavar="DEVICE", help="PyTorch device to work on: cpu (default), cuda, cuda:1, mps")


def calibration_options(arguments: argparse.Namespace) -> "CalibrationOptions":
    """Raises OptionError."""
    from converter import CalibrationOptions

    return CalibrationOptions(
        **given(
            text=arguments.calib,
            tokens=arguments.calib_tokens,
            sequence_length=arguments.calib_length,
            seed=arguments.calib_seed,
            device=arguments.device,
            dtype=arguments.calib_dtype,
            memory_limit=None if arguments.calib_memory is None else int(arguments.calib_memory * 2**30),
        ),
        all_experts=arguments.all_experts,
    )


def given(**options: object) -> dict[str, Any]:
    """The options that were given, so that the others keep the defaults of the library."""
    return {name: value for name, value in options.items() if value is not None}


def run_to_the_end(run: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run a tool. Errors that a user can mend end in one sentence, signals by way of all clean-up code."""
    from eoq_formats.errors import EoqError

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        run(arguments)
    except (EoqError, OSError) as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
