"""The machine that a benchmark ran on: what its results depend on."""

import platform
import re
from pathlib import Path

from terminal.cores import available_cores

_RELEVANT = re.compile(
    r"avx\w*|f16c|fma|bmi2|sse4_2|ssse3|amx_\w+"  # x86
    r"|asimd\w*|i8mm|sve2?|sme2?|bf16|fphp"  # ARM
)
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_USUAL_CACHES = {2: 1 << 20, 3: 32 << 20}


def cpu_name() -> str:
    """The processor as Linux names it, or the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def relevant_flags(cpuinfo: str) -> list[str]:
    """Instruction sets that matrix products can use, from the text of /proc/cpuinfo: x86's flags, ARM's features."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return sorted(flag for flag in found[1].split() if _RELEVANT.fullmatch(flag)) if found else []


def cache_bytes(level: int, folder: Path = _CACHES) -> int:
    """Bytes of the first core's cache of level 2 or 3, as Linux tells; a usual size where it does not."""
    for index in sorted(folder.glob("index*")):
        try:
            if int((index / "level").read_text()) == level:
                size = re.fullmatch(r"(\d+)([KM])", (index / "size").read_text().strip())
                return int(size[1]) << {"K": 10, "M": 20}[size[2]] if size else _USUAL_CACHES[level]
        except (OSError, ValueError):
            continue
    return _USUAL_CACHES[level]


def _flags() -> list[str]:
    try:
        return relevant_flags(Path("/proc/cpuinfo").read_text())
    except OSError:
        return []


def machine() -> dict[str, str | int | list[str]]:
    """Processor, flags, cores, caches."""
    return {
        "cpu": cpu_name(),
        "flags": _flags(),
        "cores": available_cores(),
        "l2_bytes": cache_bytes(2),
        "l3_bytes": cache_bytes(3),
    }


def describe_machine() -> str:
    """In two lines."""
    return (
        f"{cpu_name()}, {available_cores()} cores, L2 {cache_bytes(2) / 2**20:g} MiB a core, "
        f"L3 {cache_bytes(3) / 2**20:g} MiB\nflags: {' '.join(_flags()) or 'unknown'}"
    )
