"""What the files of an ablation are calibrated with: statistics for EOQ, an importance matrix for the others.

Both sides see the same tokens, weighed alike: an importance matrix is the diagonal of the second moments.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, Keys

from bench.tool_command import tool_command
from converter.calibrate.texts import bundled_texts
from converter.options import split_weight
from converter.statistics import Statistics, open_statistics
from llama_programs.fetch import sha256_of
from llama_programs.run import timed_run
from output_files.whole import whole_or_not

SEQUENCE = 512
UNQUANTISED = ("output.weight", "token_embd.weight")
"""llama-imatrix leaves them out, and the ablation leaves them F16."""


@dataclass(frozen=True)
class Calibration:
    """One file of statistics, made where it is not there yet, and an importance matrix."""

    source: Path
    """The F16 GGUF."""
    folder: Path
    threads: int
    texts: tuple[str, ...] = ()
    """`FILE` or `FILE:WEIGHT` each, as for `convert_eoq.py --calib`; none: the texts that come with the converter."""
    tokens: int = 131_072
    given: Path | None = None
    """A file of statistics to take in place of all this."""

    @cached_property
    def identity(self) -> str:
        """What the statistics depend on, the model aside."""
        if self.given is not None:
            return self._given.description
        weighed = [split_weight(text) for text in self.texts]
        texts = [f"{sha256_of(path)} x {weight:g}" for path, weight in weighed] or ["the bundled", *bundled_texts()]
        return f"{self.tokens} tokens: {', '.join(texts)}"

    @cached_property
    def _given(self) -> Statistics:
        assert self.given is not None
        return open_statistics(self.given)

    def statistics(self) -> Path:
        """Second moments. Raises ProgramFailed."""
        target = self.given or self.folder / "moments.stats"
        if not target.exists():
            collect = tool_command("stats_eoq.py", "collect", self.source, target)
            texts = [word for text in self.texts for word in ("--calib", text)]
            sizes = ["--calib-tokens", str(self.tokens), "--calib-length", str(SEQUENCE)]
            timed_run([*collect, *texts, *sizes, "--threads", str(self.threads)])
        return target

    def imatrix(self) -> Path:
        """llama.cpp's importance matrix of the same tokens. Raises ProgramFailed."""
        target = self.folder / "imatrix.gguf"
        if not target.exists():
            write_imatrix(open_statistics(self.statistics()), target)
        return target


def write_imatrix(statistics: Statistics, target: Path, left_out: Collection[str] = UNQUANTISED) -> None:
    """Write the mean squares of inputs as llama-imatrix writes them, sums and counts. Raises TargetError."""
    with whole_or_not(target) as partial:
        _write_imatrix(statistics, partial, left_out)


def _write_imatrix(statistics: Statistics, target: Path, left_out: Collection[str]) -> None:
    writer = GGUFWriter(target, "imatrix")
    writer.add_type("imatrix")
    writer.add_array(Keys.IMatrix.DATASETS, [statistics.path.name])
    writer.add_uint32(Keys.IMatrix.CHUNK_COUNT, statistics.tokens // SEQUENCE)
    writer.add_uint32(Keys.IMatrix.CHUNK_SIZE, SEQUENCE)
    for name in statistics.tensor_names:
        if name not in left_out:
            counts = statistics.counts(name)[:, None]
            writer.add_tensor(f"{name}.in_sum2", (statistics.diagonal(name) * counts).astype(np.float32))
            writer.add_tensor(f"{name}.counts", counts.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
