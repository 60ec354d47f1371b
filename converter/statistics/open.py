"""Statistics from a file of either kind."""

from pathlib import Path
from shlex import quote

from converter.errors import StatisticsError
from converter.statistics import imatrix, moments_file
from converter.statistics.imatrix import Imatrix
from converter.statistics.moments_file import MomentsFile
from converter.statistics.statistics import Statistics
from gguf_files.errors import SourceError
from gguf_files.gguf_file import GgufFile
from input_files.ordinary import check_ordinary


def open_statistics(path: Path) -> Statistics:
    """Open a statistics file of ours, or an imatrix.gguf of llama.cpp. Raises StatisticsError."""
    check_ordinary(path, StatisticsError, "the statistics")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as e:
        raise StatisticsError(f"the statistics {path} cannot be read: {e.strerror}") from None
    if magic != b"GGUF":
        raise StatisticsError(
            f"{path} is neither a statistics file nor an importance matrix in GGUF form; one in the old .dat form "
            "becomes such with: "
            f"llama-imatrix -m MODEL.gguf --in-file {quote(str(path))} --output-format gguf -o NEW.gguf"
        )
    try:
        gguf = GgufFile(path)
    except SourceError as e:
        raise StatisticsError(str(e)) from None
    kind = gguf.header.get("general.type")
    if kind == moments_file.FILE_TYPE:
        return MomentsFile(gguf)
    if kind == imatrix.FILE_TYPE:
        return Imatrix(gguf)
    raise StatisticsError(
        f"{path} is a GGUF file, but holds no statistics (its general.type is {kind}); give a file that calibration "
        "or llama-imatrix has written"
    )
