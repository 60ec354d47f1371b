"""Everything that a GPU has to prove: right results of all ops, the CPU's perplexity, speed beside llama.cpp's types.

python -m bench.gpu.check --llama-bin DIR --model F16.gguf --text FILE --json gpu-check.json

tools/gpu_check.sh builds llama.cpp for the GPU first, and calls this. `--device CPU` takes the same steps without one.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import machine
from evaluation.perplexity_output import parse_divergence
from llama_programs.errors import ProgramFailed
from llama_programs.run import output_of
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.table import markdown_table
from terminal.tool import run_tool

OPS = ("MUL_MAT", "MUL_MAT_ID", "MUL_MAT_VEC_FUSION", "GET_ROWS", "CPY")
COMPARED = ("EOQ4", "EOQ5", "EOQ3T", "EOQ4T", "EOQ5T", "Q4_K", "Q5_K")
"""File types for the divergence between CPU and GPU; --pure makes them of one type."""
LIMITED, LIMIT = ("EOQ4", "EOQ3T", "EOQ4T", "EOQ5T"), "Q4_K"
"""Whose divergence may not be above whose."""
RACED = (
    *("EOQ2", "EOQ3", "EOQ4", "EOQ5", "EOQ6", "EOQ2T", "EOQ3T", "EOQ4T", "EOQ5T"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"),
)
SHAPE = ("--hidden", "4096", "--feed-forward", "11008", "--layers", "8", "--vocabulary", "32000")
"""Layers of a 7B model; as many as keep the files small."""


@dataclass(frozen=True)
class Check:
    """The steps, each with what it found; a step that cannot be done is one that failed."""

    programs: Path
    device: str
    model: Path
    text: Path
    is_quick: bool

    def laboratory(self) -> dict[str, Any]:
        """Each kernel against the CPU's truth, then timed."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "lab.json"
            sizes = ["--rows", "256", "--length", "1024", "--memory", "16"] if self.is_quick else []
            done = subprocess.run(
                [str(self.programs / "eoq-lab"), "--device", self.device, "--json", str(target), *sizes],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            print(done.stdout, flush=True)
            if not target.exists():
                raise ProgramFailed(f"eoq-lab ended with status {done.returncode}:\n{done.stderr[-3000:]}")
            found: dict[str, Any] = json.loads(target.read_text())
        return found | {"passed": done.returncode == 0}

    def backend_ops(self) -> dict[str, Any]:
        """llama.cpp's own comparison of every EOQ case with the CPU."""
        found: dict[str, Any] = {}
        for op in OPS:
            command = [str(self.programs / "test-backend-ops"), "test", "-b", self.device, "-o", op, "-p", "eoq"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
            counted = re.findall(r"(\d+)/(\d+) tests passed", done.stdout)
            passed, total = map(int, counted[-1]) if counted else (0, 0)
            found[op] = {"passed": passed, "total": total, "ok": done.returncode == 0 and passed == total > 0}
            failing = [line for line in done.stdout.splitlines() if "FAIL" in line][:20]
            print(f"{op}: {passed} of {total} passed", *failing, sep="\n", flush=True)
        return found | {"passed": all(one["ok"] for one in found.values())}

    def divergence(self) -> dict[str, Any]:
        """Mean KL divergence, nats a token, of the device's logits from the CPU's, by type of the file."""
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in COMPARED:
                model, logits = Path(folder) / f"{name}.gguf", Path(folder) / f"{name}.logits"
                quantize = [str(self.programs / "llama-quantize"), "--allow-requantize", "--pure"]
                output_of([*quantize, str(self.model), str(model), name if name.startswith("EOQ") else f"{name}_S"])
                common = [str(self.programs / "llama-perplexity"), "-m", str(model), "-f", str(self.text), "-c", "512"]
                common += ["--chunks", "2" if self.is_quick else "16", "--kl-divergence-base", str(logits)]
                output_of([*common, "--device", "none"])
                on_device = [] if self.device == "CPU" else ["--device", self.device, "-ngl", "99"]
                said = output_of([*common, "--kl-divergence", *on_device])
                found[name] = parse_divergence(said).kld.value
                print(f"{name}: KL divergence from the CPU's logits {found[name]:.3g}", flush=True)
        # where both are zero the device is the CPU
        return found | {"passed": all(found[name] <= found[LIMIT] for name in LIMITED)}

    def speed(self) -> dict[str, Any]:
        """llama-bench on a synthetic model with the layers of a 7B one."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "speed.json"
            shape = ("--hidden", "256", "--feed-forward", "512", "--layers", "1") if self.is_quick else SHAPE
            command = [sys.executable, "-m", "bench.inference.speed", "--llama-bin", str(self.programs), *shape]
            command += ["--types", *RACED, "--rounds", "1" if self.is_quick else "3", "--json", str(target)]
            command += ["--gpu-layers", "0" if self.device == "CPU" else "99", "--work-dir", folder]
            print(output_of(command), flush=True)
            found: dict[str, Any] = json.loads(target.read_text())
        return found | {"passed": True}


def summary(results: dict[str, Any]) -> str:
    rows = [[name, "yes" if found["passed"] else "**no**", found.get("error", "")] for name, found in results.items()]
    return markdown_table(["step", "passed", "error"], rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.check", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--llama-bin", type=Path, required=True, metavar="DIR", help="programs built for the GPU")
    add("--model", type=Path, required=True, metavar="F16.gguf", help="a small model to compare CPU and GPU with")
    add("--text", type=Path, required=True, metavar="FILE", help="text for that")
    add("--device", default="CUDA0", help="as ggml names it (default: CUDA0)")
    add("--quick", action="store_true", help="small sizes, to see that all steps can be taken")
    add("--json", type=Path, metavar="OUT.json", help="file for all results")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    check_outputs([options.json], [options.model, options.text])
    check = Check(options.llama_bin.absolute(), options.device, options.model, options.text, options.quick)
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "laboratory": check.laboratory,
        "backend_ops": check.backend_ops,
        "divergence": check.divergence,
        "speed": check.speed,
    }
    results: dict[str, Any] = {}
    for name, step in steps.items():
        print(f"==> {name}", file=sys.stderr, flush=True)
        try:
            results[name] = step()
        except (ProgramFailed, ValueError, KeyError) as error:
            results[name] = {"passed": False, "error": str(error).strip().splitlines()[-1]}
            print(error, file=sys.stderr, flush=True)
        if options.json:
            written = {"machine": machine(), "device": options.device, "steps": results}
            write_whole(options.json, json.dumps(written, indent=2) + "\n")
    print(summary(results))
    if failed := [name for name, found in results.items() if not found["passed"]]:
        raise ProgramFailed(f"{', '.join(failed)}: not passed")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
