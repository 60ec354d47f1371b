"""The llama.cpp versions that the edits are checked against: source trees inside sdists of llama-cpp-python on PyPI."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LlamaCppVersion:
    """One llama.cpp source tree, found inside a source distribution on PyPI."""

    package: str
    version: str
    sha256: str
    tree: str
    """Path of the llama.cpp tree inside the unpacked sdist."""

    @property
    def sdist(self) -> str:
        """File name of the source distribution."""
        return f"{self.package.replace('-', '_')}-{self.version}.tar.gz"


PINNED = LlamaCppVersion(
    package="llama-cpp-python",
    version="0.3.36",
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    tree="llama_cpp_python-0.3.36/vendor/llama.cpp",
)

OLDER = LlamaCppVersion(
    package="llama-cpp-python",
    version="0.3.30",
    sha256="798c9b42652d2e0bff5fe81e7e762089f425a99e67f66ffe5ae156957876e0d1",
    tree="llama_cpp_python-0.3.30/vendor/llama.cpp",
)
"""Months older than PINNED: the edits must fit it too. It is checked, not built."""
