"""The files that the ablation compares: EOQ types by every method, and llama.cpp's own types with an imatrix."""

from dataclasses import dataclass
from pathlib import Path

from bench.quality.ablation_calibration import Calibration
from bench.tool_command import tool_command
from llama_programs.run import timed_run

METHODS = {
    "plain": ("--rtn",),
    "awq": ("--rounding", "nearest", "--awq", "on"),
    "feedback": ("--rounding", "feedback", "--awq", "off"),
    "both": ("--rounding", "feedback", "--awq", "on"),
}
"""Options of tools/convert_eoq.py, the statistics aside."""

BITS = (2, 3, 4, 5, 6)
TRELLIS_BITS = (2, 3, 4, 5)
PLANNED = "EOQT"
"""Stands for the type of a file whose types are planned."""
PEERS = ("IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "Q4_K_S", "Q5_K_S")
KEPT = r"^(token_embd|output)\.weight=f16"
"""Override of `plan_eoq.py` for what stays as it is."""


@dataclass(frozen=True)
class Variant:
    """One file: an EOQ type and a method, or a type of llama.cpp."""

    type: str
    method: str | None = None
    """One of METHODS; None for llama.cpp's types."""
    size_of: str | None = None
    """One of PEERS: the trellis types planned to the size of its file. None: one type throughout."""

    @property
    def name(self) -> str:
        words = (self.type, f"as-{self.size_of}" if self.size_of else None, self.method)
        return "-".join(word for word in words if word)

    @property
    def is_calibrated(self) -> bool:
        """Whether it is an EOQ type made with statistics."""
        return self.method not in (None, "plain")


VARIANTS = (
    *(Variant(f"EOQ{b}", m) for b in BITS for m in METHODS),
    *(Variant(f"EOQ{b}T", m) for b in TRELLIS_BITS for m in METHODS),
    *(Variant(PLANNED, "feedback", t) for t in PEERS),
    *(Variant(t) for t in PEERS),
)


@dataclass(frozen=True)
class Workshop:
    """Makes files in a folder, each once. Embeddings and output stay F16 in all of them."""

    source: Path
    """The F16 GGUF."""
    calibration: Calibration
    """Where statistics and importance matrix come from, both of the same text."""
    folder: Path
    programs: Path
    threads: int
    shrinkage: float | None
    """Shrinkage of the moments, for calibrated EOQ files; None: the converter's choice."""
    damping: float
    """Damping of error feedback, for those too."""

    def label(self, variant: Variant) -> str:
        """The variant's name, and what else its bytes depend on."""
        if not variant.is_calibrated:
            return variant.name
        shrinkage = "auto" if self.shrinkage is None else f"{self.shrinkage:g}"
        return f"{variant.name}-s{shrinkage}-d{self.damping:g}"

    def model(self, variant: Variant) -> Path:
        """Where the file of a variant lies, made or not."""
        return self.folder / f"{self.label(variant)}.gguf"

    def make(self, variant: Variant) -> tuple[Path, float | None, int | None]:
        """The file, the seconds that it took and the peak memory in bytes; None for both if it was there already.

        Raises ProgramFailed.
        """
        target = self.model(variant)
        if target.exists():
            return target, None, None
        seconds, peak = self._quantize(variant, target) if variant.method is None else self._convert(variant, target)
        return target, seconds, peak

    def _quantize(self, variant: Variant, target: Path) -> tuple[float, int]:
        # llama-quantize writes under the name that it is given from the start
        partial = target.with_suffix(".part.gguf")
        types = ("--token-embedding-type", "f16", "--output-tensor-type", "f16")
        command = [str(self.programs / "llama-quantize"), "--imatrix", str(self.calibration.imatrix()), *types]
        taken = timed_run([*command, str(self.source), str(partial), variant.type, str(self.threads)])
        partial.replace(target)
        return taken

    def _convert(self, variant: Variant, target: Path) -> tuple[float, int]:
        method = str(variant.method)
        statistics: tuple[str, ...] = ()
        if variant.is_calibrated:
            statistics = ("--stats", str(self.calibration.statistics()))
            if self.shrinkage is not None:
                statistics += ("--shrinkage", f"{self.shrinkage:g}")
            if variant.method != "awq":
                statistics += ("--damping", f"{self.damping:g}")
        types: tuple[str, ...] = ("--output-type", "f16", "--token-embd-type", "f16")
        if variant.size_of is None:
            types = ("--type", variant.type.lower(), *types)
        else:
            types = ("--plan", str(self._plan(variant.size_of)), *types)
        command = [*tool_command("convert_eoq.py", self.source, target), *types, *METHODS[method], *statistics]
        return timed_run([*command, "--threads", str(self.threads), "--quiet"])

    def _plan(self, peer: str) -> Path:
        """Trellis types that together take what a type of llama.cpp takes."""
        plan = self.folder / f"{PLANNED}-as-{peer}.plan.json"
        if not plan.exists():
            file, seconds, _ = self.make(Variant(peer))
            size = file.stat().st_size
            if seconds is not None:
                file.unlink()
            within = ("--target-size", str(size), "--codes", "trellis", "--stats", str(self.calibration.statistics()))
            command = [*tool_command("plan_eoq.py", self.source), *within, "--tensor-type", KEPT, "--json", str(plan)]
            timed_run([*command, "--threads", str(self.threads)])
        return plan
