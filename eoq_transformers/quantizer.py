"""Loads folders of EOQ codes within `from_pretrained` of transformers 4.57 and 5.

Before any weight is read, the heads of all files are checked, and every layer that has codes gets room for them in
place of its weight; transformers then fills that like any other tensor. At the end the codes either stay, or become
floats layer by layer.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer

from eoq_transformers.checkpoint import Checkpoint, checkpoint_paths, read_heads
from eoq_transformers.configuration import EoqConfig
from eoq_transformers.description import AWQ_SCALES, METHOD, NORMS, Codes, FormatError, check_codes, read_description
from eoq_transformers.layers import (
    EoqExperts,
    add_codes,
    be_dense,
    compute_as_head,
    compute_with_codes,
    remove_codes,
    remove_weight,
    weights_of,
)
from eoq_transformers.weight_names import IS_5, Place, nearest_name, places, with_codes


@register_quantizer(METHOD)
class EoqQuantizer(HfQuantizer):  # type: ignore[misc]
    """Of a model whose folder has codes already: it quantises nothing itself."""

    requires_calibration = True
    quantization_config: EoqConfig

    def __init__(self, quantization_config: EoqConfig, **kwargs: Any) -> None:
        if not kwargs.get("pre_quantized", True):
            raise FormatError("this model has no EOQ codes; make a folder that has them with eoq export-hf")
        super().__init__(quantization_config, **kwargs)
        self._types = read_description(quantization_config.to_dict())
        self._checkpoint = Checkpoint({}, {})
        self._filled: dict[str, tuple[nn.Module, str, torch.dtype]] = {}
        self._ties: dict[str, str] = {}
        self._packed_share = 1.0

    @property
    def _dequantizes(self) -> bool:
        return bool(self.quantization_config.dequantize)

    def _convert_model_for_quantization(self, model: Any) -> None:
        """No module is replaced here; version 4 would ask for accelerate to find that out."""

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: Iterable[str] | None = None, **kwargs: Any
    ) -> Any:
        self._checkpoint = read_heads(checkpoint_paths(model, checkpoint_files))
        codes = check_codes(self._types, self._checkpoint.stored)
        found = list(places(model, codes).values())
        for place in found:
            _check_place(place, model.get_parameter(place.parameter), [codes[name] for name in place.sources])
        tied = _tied_to(model, {place.parameter for place in found})
        weights = sum(model.get_parameter(place.parameter).numel() for place in found)
        nbytes = sum(one.nbytes for one in codes.values())
        for place in found:
            self._make_room(model, place.parameter, codes[place.sources[0]], tied.get(place.parameter, []))
        width = torch.empty((), dtype=model.dtype, device="meta").element_size() if weights else 1
        self._packed_share = nbytes / (weights * width) if self._dequantizes else 1.0
        if not self._dequantizes:
            _use_experts_one_by_one(model)
        return model

    def _make_room(self, model: Any, parameter: str, codes: Codes, tied: list[str]) -> None:
        owner_name, _, name = parameter.rpartition(".")
        owner = model.get_submodule(owner_name)
        dense = owner.get_parameter(name)
        shape, dtype, device = dense.shape, dense.dtype, dense.device
        if name == "weight":
            remove_weight(owner)
            add_codes(owner, codes, shape, device)
            owner.eoq_dtype = dtype
            holder = owner
            if not self._dequantizes:
                compute_with_codes(owner, parameter)
        else:
            holder = EoqExperts(shape, dtype)
            add_codes(holder, codes, shape, device)
            delattr(owner, name)
            owner.add_module(name, holder)
        self._filled[parameter] = (holder, name, dtype)
        for head_name in tied:
            head = model.get_submodule(head_name.rpartition(".")[0])
            remove_weight(head)
            self._ties[head_name] = parameter
            if IS_5:
                model.all_tied_weights_keys.pop(head_name, None)
            if not self._dequantizes:
                compute_as_head(head, head_name, holder)

    def adjust_max_memory(self, max_memory: dict[str, int | str]) -> dict[str, int | str]:
        """What fits as codes may not fit as floats."""
        if self._packed_share >= 1:
            return max_memory
        return {device: int(size * self._packed_share) for device, size in max_memory.items() if isinstance(size, int)}

    # version 4 casts every float of a file to the model's dtype, in which norms and scales may lose bits

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        return not IS_5 and param_name.rpartition(".")[2] in (NORMS, AWQ_SCALES)

    def create_quantized_param(
        self, model: Any, param_value: torch.Tensor, param_name: str, target_device: Any, *args: Any, **kwargs: Any
    ) -> None:
        owner, _, name = param_name.rpartition(".")
        exact = self._checkpoint.read(nearest_name(param_name, self._checkpoint.files))
        setattr(model.get_submodule(owner), name, exact.to(target_device))

    def update_weight_conversions(self, weight_conversions: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Of version 5."""
        return with_codes(weight_conversions)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        if self._dequantizes:
            self._dequantize(model)
            self.remove_quantization_config(model)
        return model

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        for parameter, (holder, name, own_dtype) in self._filled.items():
            owner = model.get_submodule(parameter.rpartition(".")[0])
            weight = nn.Parameter(weights_of(holder, dtype or own_dtype), requires_grad=False)
            weight._is_hf_initialized = True  # type: ignore[attr-defined]
            if holder is owner:
                remove_codes(holder)
                del holder.eoq_dtype
                be_dense(holder)
            else:
                delattr(owner, name)
            owner.register_parameter(name, weight)
        for head_name, parameter in self._ties.items():
            head = model.get_submodule(head_name.rpartition(".")[0])
            be_dense(head)
            head.register_parameter("weight", model.get_parameter(parameter))
            if IS_5:
                model.all_tied_weights_keys[head_name] = parameter
        self._filled, self._ties = {}, {}
        return model

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def _check_place(place: Place, dense: nn.Parameter, codes: list[Codes]) -> None:
    """Whether the codes of some layers make up a parameter, which is on no device yet. Raises FormatError."""
    names = ", ".join(place.sources[:3])
    if len({(one.type, one.has_scales) for one in codes}) > 1:
        types = ", ".join(sorted({one.type.name.lower() for one in codes}))
        raise FormatError(
            f"{place.parameter} is made of {names}, …, whose types differ ({types}), and this version of transformers "
            "keeps them as one; export the model with one type for all matrices of an expert"
        )
    shape = tuple(dense.shape)
    if len(codes) == 1:
        is_fitting = codes[0].shape == shape
    else:
        rows = sum(one.shape[-2] for one in codes)
        is_fitting = len(shape) == 3 and {one.shape[-1] for one in codes} == {shape[-1]} and rows == shape[0] * shape[1]
    if not is_fitting:
        raise FormatError(
            f"the codes of {names} are of shape {list(codes[0].shape)}, and {place.parameter} has {list(shape)}; the "
            "config.json is of another model"
        )


def _tied_to(model: Any, parameters: set[str]) -> dict[str, list[str]]:
    """Names of weights that are those of others which have codes, by the names of these."""
    tied: dict[str, list[str]] = {}
    if IS_5:
        for target, source in model.all_tied_weights_keys.items():
            if source in parameters and target not in parameters:
                tied.setdefault(source, []).append(target)
        return tied
    named = dict(model.named_parameters(remove_duplicate=False))
    owners = {id(named[name]): name for name in parameters}
    for name, parameter in named.items():
        source = owners.get(id(parameter))
        if source is not None and name != source:
            tied.setdefault(source, []).append(name)
    return tied


def _use_experts_one_by_one(model: Any) -> None:
    """Version 5 has ways to multiply by all experts at once, which need their matrices in floats."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_experts_implementation"):
            config._experts_implementation = "eager"
