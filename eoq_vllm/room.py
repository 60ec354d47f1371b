"""Room for the codes of a layer of vLLM: filled by vLLM's own loaders, then taken apart by type.

A layer gets one parameter for all codes and one for all norms, of as many bytes a row as its widest part. vLLM knows
which rows of a part belong to this device and where they go; what is narrower is padded, and cut again at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from eoq_formats.types import WeightType
from eoq_transformers.description import AWQ_SCALES, NORMS, PACKED, FormatError
from eoq_vllm.parts import Part, ShardId, check_split, numbers_of, row_slices

Tensor = torch.Tensor
Loader = Callable[..., None]


@dataclass(frozen=True)
class Held:
    """Rows of one type: what eoq_transformers.products takes."""

    packed: Tensor
    norms: Tensor
    type: WeightType
    scales: Tensor | None


@dataclass
class Room:
    """Of one layer, from its making until all is loaded."""

    parts: Sequence[Part]
    length: int
    """Columns of the layer."""
    columns: slice
    """Those on this device."""
    loaded: set[tuple[str, int]] = field(default_factory=set)
    """Kind and number of what came."""
    scales: dict[int, Tensor] = field(default_factory=dict)
    """By number of a part."""

    def add_to(self, layer: nn.Module, own: Loader) -> None:
        """Give `layer` the parameters; `own` is vLLM's loader of it. Raises FormatError."""
        here = self.columns.stop - self.columns.start
        check_split(self.parts, here, self.length)
        rows = sum(part.rows for part in self.parts)
        widest = max(part.packed_bytes(here) for part in self.parts), max(part.blocks(here) for part in self.parts)
        packed = torch.empty((rows, widest[0]), dtype=torch.uint8)
        norms = torch.empty((rows, widest[1]), dtype=torch.float16)
        for kind, data in ((PACKED, packed), (NORMS, norms)):
            parameter = nn.Parameter(data, requires_grad=False)
            _set(parameter, input_dim=1, output_dim=0, weight_loader=self._loader(kind, own))
            layer.register_parameter(kind, parameter)
        # few folders have scales, so there is no room for them before they come
        scales = nn.Parameter(torch.empty(0, dtype=torch.float16), requires_grad=False)
        _set(scales, weight_loader=self._take_scales)
        layer.register_parameter(AWQ_SCALES, scales)

    def _loader(self, kind: str, own: Loader) -> Loader:
        def load(parameter: nn.Parameter, stored: Tensor, *args: Any, **kwargs: Any) -> None:
            numbers = self._numbers(args, kwargs)
            for number in numbers:
                self._check(kind, self.parts[number], stored, parameter.dtype)
                self.loaded.add((kind, number))
            # of several parts none is split by columns, so that widths here are those of the file
            missing = max(0, parameter.shape[1] - stored.shape[1])
            own(parameter, nn.functional.pad(stored, (0, missing)) if missing else stored, *args, **kwargs)

        return load

    def _check(self, kind: str, part: Part, stored: Tensor, dtype: torch.dtype) -> None:
        wanted = part.packed_bytes(self.length) if kind == PACKED else part.blocks(self.length)
        if stored.dtype != dtype or stored.ndim != 2 or stored.shape[1] != wanted:
            raise FormatError(
                f"{part.name}.{kind} is {stored.dtype} of shape {list(stored.shape)}, and rows of {self.length} "
                f"weights of {part.type.name.lower()} have {wanted} of {dtype}; get the files again"
            )

    def _take_scales(self, parameter: nn.Parameter, stored: Tensor, *args: Any, **kwargs: Any) -> None:
        for number in self._numbers(args, kwargs):
            if stored.dtype != torch.float16 or stored.shape != (self.length,):
                raise FormatError(
                    f"{self.parts[number].name}.awq_scales is {stored.dtype} of shape {list(stored.shape)}, and should "
                    f"be float16 of {self.length}; get the files again"
                )
            self.scales[number] = stored[self.columns].to(parameter.device, copy=True)

    def _numbers(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[int, ...]:
        shard: ShardId = args[0] if args else next(iter(kwargs.values()), None)
        return numbers_of(shard, len(self.parts))

    def take(self, layer: nn.Module) -> list[Held]:
        """Take the codes out of `layer`, which loses the parameters. Raises FormatError where some did not come."""
        for kind in (PACKED, NORMS):
            for number, part in enumerate(self.parts):
                if (kind, number) not in self.loaded:
                    raise FormatError(f"the folder has no {part.name}.{kind}; get its files again")
        packed, norms = layer.get_parameter(PACKED).data, layer.get_parameter(NORMS).data
        for name in (PACKED, NORMS, AWQ_SCALES):
            delattr(layer, name)
        here = self.columns.stop - self.columns.start
        if len({part.type for part in self.parts}) == 1 and not self.scales:
            return [Held(packed, norms, self.parts[0].type, None)]
        return [
            Held(
                packed[rows, : part.packed_bytes(here)].contiguous(),
                norms[rows, : part.blocks(here)].contiguous(),
                part.type,
                self.scales.get(number),
            )
            for number, (part, rows) in enumerate(row_slices(self.parts))
        ]


def hold(layer: nn.Module, held: Sequence[Held]) -> None:
    """Give a layer its codes as parameters, a set for each type, which vLLM moves and counts like any other."""
    layer.eoq_types = [one.type for one in held]  # type: ignore[assignment]
    for number, one in enumerate(held):
        for kind, data in ((PACKED, one.packed), (NORMS, one.norms), (AWQ_SCALES, one.scales)):
            parameter = None if data is None else nn.Parameter(data, requires_grad=False)
            layer.register_parameter(f"{kind}_{number}", parameter)


def held_by(layer: nn.Module) -> list[Held]:
    """What `hold` gave it."""
    types: list[WeightType] = layer.eoq_types  # type: ignore[assignment]
    found = []
    for number, t in enumerate(types):
        packed, norms, scales = (getattr(layer, f"{kind}_{number}") for kind in (PACKED, NORMS, AWQ_SCALES))
        found.append(Held(packed, norms, t, scales))
    return found


def _set(parameter: nn.Parameter, **attributes: Any) -> None:
    for name, value in attributes.items():
        setattr(parameter, name, value)
