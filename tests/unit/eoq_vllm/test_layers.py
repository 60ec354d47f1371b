"""vLLM's layers with codes: each device gets its rows and columns of the same weights, as floats and as codes."""

from typing import Any

import numpy as np
import pytest
import torch

from eoq_formats import EoqTensor
from eoq_formats.types import weight_type
from eoq_transformers import FormatError, products
from eoq_transformers.description import describe
from tests.unit.eoq_vllm.conftest import Vllm

Tensor = torch.Tensor

FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def tensor_of(type_name: str, rows: int, length: int, seed: int = 0) -> EoqTensor:
    """Any codes, all of which mean something, with scales about 1."""
    t, random = weight_type(type_name), np.random.default_rng(seed)
    blocks = random.integers(0, 256, (rows, length // t.width, t.block_bytes), dtype=np.uint8)
    blocks[..., :2] = random.uniform(0.5, 2, (*blocks.shape[:-1], 1)).astype("<f2").view(np.uint8)
    return EoqTensor.of_blocks(blocks.reshape(rows, -1), t)


def configuration(tensors: dict[str, EoqTensor], dequantize: bool) -> Any:
    from eoq_vllm.configuration import EoqConfig

    described = describe({name: tensor.type for name, tensor in tensors.items()})
    config = EoqConfig.from_config({**described, "dequantize": dequantize})
    config.packed_modules_mapping = FUSED
    return config


def load(layer: Any, tensor: EoqTensor, *shard: Any, scales: Tensor | None = None) -> None:
    """As the `load_weights` of a model of vLLM does."""
    for kind in ("packed", "norms"):
        parameter = getattr(layer, kind)
        parameter.weight_loader(parameter, torch.from_numpy(getattr(tensor, kind)), *shard)
    if scales is not None:
        layer.awq_scales.weight_loader(layer.awq_scales, scales, *shard)


def finish(layer: Any) -> None:
    layer.quant_method.process_weights_after_loading(layer)


def assert_is(layer: Any, parts: list[Tensor], tensors: list[EoqTensor], scales: list[Tensor | None]) -> None:
    """Whether a finished layer has the weights `parts`, one below the other; `tensors` are their codes."""
    weights = torch.cat(parts)
    x = torch.randn(3, weights.shape[1], generator=torch.Generator().manual_seed(1))
    if hasattr(layer, "weight"):
        assert torch.equal(layer.weight, weights)
        wanted = torch.nn.functional.linear(x, weights)
    else:
        codes = [(torch.from_numpy(t.packed), torch.from_numpy(t.norms), t.type) for t in tensors]
        wanted = torch.cat([products.product(x, *one, s) for one, s in zip(codes, scales, strict=True)], dim=-1)
        assert {name for name, _ in layer.named_parameters()} & {"packed", "norms", "awq_scales", "weight"} == set()
    assert torch.equal(layer.quant_method.apply(layer, x, None), wanted)
    assert torch.equal(layer.quant_method.apply(layer, x, torch.ones(len(weights))), wanted + 1)


def cut(tensor: EoqTensor, rows: slice, blocks: slice = slice(None)) -> EoqTensor:
    """Some rows and blocks of a tensor."""
    kept = tensor.blocks.reshape(len(tensor.norms), -1, tensor.type.block_bytes)[rows, blocks]
    return EoqTensor.of_blocks(kept.reshape(len(kept), -1), tensor.type)


def floats(tensor: EoqTensor) -> Tensor:
    return torch.from_numpy(tensor.dequantize())


@pytest.mark.parametrize("dequantize", [True, False], ids=["floats", "codes"])
@pytest.mark.parametrize("rank", [0, 1])
def test_queries_keys_and_values_of_different_types(vllm: Vllm, rank: int, dequantize: bool) -> None:
    """On two devices: half of the queries each, and the one head of keys and values on both."""
    vllm.be_rank(rank, 2)
    stored = {
        "a.q_proj": tensor_of("eoq4", 128, 256),
        "a.k_proj": tensor_of("eoq6_64", 32, 256),
        "a.v_proj": tensor_of("eoq3t", 32, 256),
    }
    layer = vllm.linear.QKVParallelLinear(
        256, 32, 4, 1, bias=False, quant_config=configuration(stored, dequantize), prefix="a.qkv_proj"
    )
    for shard in "kqv":
        load(layer, stored[f"a.{shard}_proj"], shard)
    finish(layer)
    here = [cut(stored["a.q_proj"], slice(64 * rank, 64 * rank + 64)), stored["a.k_proj"], stored["a.v_proj"]]
    assert_is(layer, [floats(t) for t in here], here, [None] * 3)


def test_a_layer_of_codes_compiles(vllm: Vllm) -> None:
    """In one graph, as vLLM asks of torch.compile."""
    tensor = tensor_of("eoq4", 4, 128)
    layer = vllm.linear.RowParallelLinear(
        128, 4, bias=False, quant_config=configuration({"o": tensor}, False), prefix="o"
    )
    load(layer, tensor)
    finish(layer)
    compiled = torch.compile(lambda x: 2 * layer(x)[0], fullgraph=True, backend="eager", dynamic=True)
    for count in (2, 3):
        x = torch.randn(count, 128, generator=torch.Generator().manual_seed(1))
        assert torch.equal(compiled(x), 2 * layer(x)[0])


@pytest.mark.parametrize("dequantize", [True, False], ids=["floats", "codes"])
@pytest.mark.parametrize("is_one", [True, False], ids=["one matrix", "two matrices"])
def test_layers_that_are_joined(vllm: Vllm, is_one: bool, dequantize: bool) -> None:
    """In the checkpoint already, or by vLLM; on the second of two devices."""
    vllm.be_rank(1, 2)
    gate, up = tensor_of("eoq5", 32, 128, 1), tensor_of("eoq5", 32, 128, 2)
    both = EoqTensor(np.concatenate([gate.packed, up.packed]), np.concatenate([gate.norms, up.norms]), gate.type)
    stored = {"m.gate_up_proj": both} if is_one else {"m.gate_proj": gate, "m.up_proj": up}
    layer = vllm.linear.MergedColumnParallelLinear(
        128, [32, 32], bias=False, quant_config=configuration(stored, dequantize), prefix="m.gate_up_proj"
    )
    if is_one:
        load(layer, both)
    else:
        load(layer, gate, 0)
        load(layer, up, 1)
    finish(layer)
    finish(layer)  # which vLLM may ask for again
    here = [cut(gate, slice(16, 32)), cut(up, slice(16, 32))]
    assert_is(layer, [floats(t) for t in here], here, [None] * 2)


@pytest.mark.parametrize("dequantize", [True, False], ids=["floats", "codes"])
def test_columns_are_split_with_their_scales(vllm: Vllm, dequantize: bool) -> None:
    vllm.be_rank(1, 2)
    tensor, scales = tensor_of("eoq4", 10, 512), torch.linspace(0.5, 2, 512).half()
    layer = vllm.linear.RowParallelLinear(
        512, 10, bias=False, quant_config=configuration({"o_proj": tensor}, dequantize), prefix="o_proj"
    )
    load(layer, tensor, scales=scales)
    finish(layer)
    here, half = cut(tensor, slice(None), slice(2, 4)), scales[256:]
    assert_is(layer, [floats(here) / half.float()], [here], [half])


def test_columns_that_are_no_whole_blocks(vllm: Vllm) -> None:
    vllm.be_rank(0, 2)
    config = configuration({"o_proj": tensor_of("eoq4t", 4, 768)}, True)
    with pytest.raises(FormatError, match=r"384 of the 768 columns of o_proj, .* blocks of 256; .*tensor-parallel"):
        vllm.linear.RowParallelLinear(768, 4, bias=False, quant_config=config, prefix="o_proj")


@pytest.mark.parametrize(("dequantize", "name"), [(True, ""), (False, "model.embed_tokens")], ids=["floats", "codes"])
def test_embeddings_that_are_the_output_matrix(vllm: Vllm, dequantize: bool, name: str) -> None:
    """vLLM fills up to 128 tokens with zeros. Some of its models give their embeddings no name."""
    tensor = tensor_of("eoq6", 100, 128)
    config = configuration({"model.embed_tokens": tensor}, dequantize)
    embedding = vllm.embeddings.VocabParallelEmbedding(100, 128, quant_config=config, prefix=name)
    head = vllm.embeddings.ParallelLMHead(100, 128, quant_config=config, prefix="lm_head").tie_weights(embedding)
    load(embedding, tensor)
    for layer in (head, embedding):  # in either order
        finish(layer)
    ids = torch.tensor([[3, 99], [0, 3]])
    assert torch.equal(embedding.quant_method.embedding(embedding, ids), floats(tensor)[ids])
    x = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    logits = head.quant_method.apply(head, x, None)
    assert logits.shape == (2, 128) and torch.equal(logits, embedding.quant_method.apply(embedding, x, None))
    assert logits[:, :100].any() and not logits[:, 100:].any()
    if dequantize:
        assert head.weight is embedding.weight
    else:
        assert not list(head.parameters())


def test_layers_without_codes_are_vllms_own(vllm: Vllm) -> None:
    config = configuration({"a.q_proj": tensor_of("eoq4", 4, 128)}, True)
    linear = vllm.linear.RowParallelLinear(128, 4, bias=False, quant_config=config, prefix="o_proj")
    assert type(linear.quant_method) is vllm.linear.UnquantizedLinearMethod
    embedding = vllm.embeddings.VocabParallelEmbedding(64, 128, quant_config=config, prefix="embed_tokens")
    head = vllm.embeddings.ParallelLMHead(64, 128, quant_config=config, prefix="lm_head").tie_weights(embedding)
    assert head.weight is embedding.weight
    assert config.get_quant_method(torch.nn.Identity(), "a.attn") is None


def test_what_cannot_have_codes_is_refused_by_name(vllm: Vllm) -> None:
    experts = configuration({"mlp.experts.3.up_proj": tensor_of("eoq4", 4, 128)}, True)
    with pytest.raises(FormatError, match=r"mlp\.experts\.3\.up_proj has codes, and vLLM has it in a Identity"):
        experts.get_quant_method(torch.nn.Identity(), "mlp.experts")
    some = configuration({"a.q_proj": tensor_of("eoq4", 4, 128)}, True)
    with pytest.raises(FormatError, match=r"joins a\.k_proj, which has no codes, with a\.q_proj, which has"):
        vllm.linear.QKVParallelLinear(128, 4, 1, 1, bias=False, quant_config=some, prefix="a.qkv_proj")


def test_codes_that_are_not_those_of_the_layer(vllm: Vllm) -> None:
    tensor = tensor_of("eoq4", 4, 256)
    layer = vllm.linear.RowParallelLinear(
        256, 4, bias=False, quant_config=configuration({"o": tensor}, True), prefix="o"
    )
    with pytest.raises(FormatError, match=r"o\.packed is torch\.uint8 of shape \[4, 64\], .* have 128 of torch\.uint8"):
        load(layer, tensor_of("eoq4", 4, 128))
    with pytest.raises(FormatError, match=r"o\.awq_scales .* \[128\], and should be float16 of 256"):
        load(layer, tensor, scales=torch.ones(128, dtype=torch.float16))
    layer = vllm.linear.RowParallelLinear(
        256, 4, bias=False, quant_config=configuration({"o": tensor}, True), prefix="o"
    )
    with pytest.raises(FormatError, match=r"no o\.packed"):
        finish(layer)
