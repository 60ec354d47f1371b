"""What runs on a node of the cluster: opens the model once, and rounds the tensors that come."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from converter.checkpoint.facts import library_versions
from converter.errors import ClusterError
from converter.plan import TensorPlan
from converter.remote.shared_files import SharedFile
from converter.report import ConversionProgress, TensorRecord
from converter.report.metadata import TOOL
from converter.rounded_tensors import RoundedHere
from converter.rounding_method import RoundingRecipe
from eoq_formats.errors import EoqError
from gguf_files.source import Source, open_gguf
from gguf_files.weights import Bytes, RowWorkers


def versions() -> dict[str, str]:
    """Of what decides the bytes of a conversion, by name."""
    return {"EOQ": TOOL, **library_versions()}


@dataclass(frozen=True)
class Job:
    """All that a worker must know of a conversion, but for the tensor."""

    id: str
    """Tells one from others."""
    sources: tuple[SharedFile, ...]
    """The model; the first file leads to the others."""
    statistics: SharedFile | None
    recipe: RoundingRecipe
    threads: int
    versions: dict[str, str]
    """Those of the machine that converts."""

    def open(self) -> Source:
        """The model as this node sees it. Raises ClusterError, SourceError."""
        own = versions()
        if other := [name for name, number in self.versions.items() if own[name] != number]:
            different = ", ".join(f"{name} {own[name]}, not {self.versions[name]}" for name in other)
            raise ClusterError(
                f"the node {socket.gethostname()} has {different}; install the same versions on all nodes, as bytes "
                "may depend on them"
            )
        for file in (*self.sources, *([self.statistics] if self.statistics else [])):
            file.check()
        return open_gguf(self.sources[0].path)


@dataclass(frozen=True)
class Rounded:
    """A tensor that a worker has rounded."""

    data: Bytes
    """uint8 (rows, row bytes)"""
    record: TensorRecord


_opened: tuple[str, RoundedHere] | None = None
"""The last job of this process."""


def _maker(job: Job) -> RoundedHere:
    global _opened  # noqa: PLW0603
    if _opened is None or _opened[0] != job.id:
        _opened = None
        rounder = job.recipe.rounder(job.open(), RowWorkers(job.threads))
        _opened = job.id, RoundedHere(rounder, ConversionProgress())
    return _opened[1]


def round_tensor(job: Job, plan: TensorPlan) -> Rounded | EoqError:
    """Round a tensor, or give back the error that a user can mend: raised, Ray would wrap it."""
    try:
        with ExitStack() as stack:
            if job.recipe.statistics is not None:
                from converter.torch_settings import torch_settings  # torch takes seconds to load

                stack.enter_context(torch_settings(job.threads))
            (made,) = _maker(job).make([plan])
            data = np.concatenate(list(made.pieces))
            return Rounded(data, made.record())
    except EoqError as error:
        return error
    except OSError as error:
        return ClusterError(f"the node {socket.gethostname()} cannot round {plan.tensor.name}: {error}")
