"""Run programs, and read what they print."""

import re
import subprocess
import sys
from pathlib import Path

from tests.samples.waiting import LONGEST

ROOT = Path(__file__).resolve().parents[2]
CONVERT = (sys.executable, ROOT / "tools" / "convert_eoq.py")


class CommandFailed(AssertionError):
    """A program ended with a status that the test does not expect."""


def run(*command: str | Path, expect_failure: bool = False) -> str:
    """Run a program without input; returns what it printed on both streams together."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LONGEST
    )
    output = done.stdout.decode(errors="replace")
    if (done.returncode != 0) != expect_failure:
        raise CommandFailed(f"{' '.join(words)}\nended with status {done.returncode}:\n{output[-6000:]}")
    if done.returncode < 0:
        raise CommandFailed(f"{' '.join(words)}\nwas killed by signal {-done.returncode}:\n{output[-6000:]}")
    return output


def convert(model: Path, target: Path, *options: str | Path) -> str:
    """Run tools/convert_eoq.py."""
    return run(*CONVERT, model, target, *options)


def perplexity(programs: Path, model: Path, text: Path, *options: str, chunks: int, context: int) -> float:
    """Perplexity of `model` on the first `chunks` windows of `context` tokens of `text`."""
    sizes = ("--chunks", str(chunks), "-c", str(context))
    output = run(programs / "llama-perplexity", "-m", model, "-f", text, *sizes, *options)
    found = re.search(r"Final estimate: PPL = ([\d.]+)", output)
    if found is None:
        raise CommandFailed(f"llama-perplexity gave no estimate for {model}:\n{output[-6000:]}")
    return float(found[1])
