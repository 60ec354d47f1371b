"""Which parts a layer of vLLM is made of, and how shard ids name them."""

import pytest

from eoq_formats.types import weight_type
from eoq_transformers import FormatError
from eoq_vllm.parts import Part, check_split, embeddings_of, names_of, numbers_of, parts_of

EOQ4, EOQ5T = weight_type("eoq4"), weight_type("eoq5t")
FUSED = {"qkvz": ["qkv", "z"], "qkv_proj": ["qkv_proj"]}


def test_names_are_those_that_vllm_joins() -> None:
    types = {"l.0.qkv": EOQ4, "l.0.z": EOQ5T, "l.0.qkv_proj": EOQ4, "head": EOQ4}
    assert names_of("l.0.qkvz", FUSED, types) == ("l.0.qkv", "l.0.z")
    assert names_of("l.0.qkv_proj", FUSED, types) == ("l.0.qkv_proj",)
    assert names_of("head", FUSED, types) == ("head",)
    assert names_of("l.1.qkvz", FUSED, types) == names_of("norm", FUSED, types) == names_of("", FUSED, types) == ()


def test_more_parts_than_layers_need_one_type() -> None:
    """Some models have four parts of two matrices, and tell by the shard id which of them a matrix has."""
    names, sizes = ("qkv", "z"), (8, 4, 4, 8)
    same = parts_of("qkvz", names, sizes, {"qkv": EOQ4, "z": EOQ4})
    assert [part.rows for part in same] == list(sizes) and {part.type for part in same} == {EOQ4}
    with pytest.raises(FormatError, match=r"has qkvz in 4 parts, and qkv, z of the types eoq4, eoq5t are 2"):
        parts_of("qkvz", names, sizes, {"qkv": EOQ4, "z": EOQ5T})


def test_shard_ids() -> None:
    assert [numbers_of(shard, 3) for shard in ("q", "k", "v", 2, (0, 1), None)] == [
        (0,),
        (1,),
        (2,),
        (2,),
        (0, 1),
        (0, 1, 2),
    ]
    for shard in ("index_k", 3, (2, 3), -1):
        with pytest.raises(FormatError, match="does not know"):
            numbers_of(shard, 3)


def test_a_model_whose_columns_are_no_blocks() -> None:
    with pytest.raises(FormatError, match=r"o has 320 columns in vLLM, which are no whole blocks of 256"):
        check_split([Part("o", EOQ5T, 4)], 320, 320)


def test_embeddings_without_a_name() -> None:
    assert embeddings_of({"model.embed_tokens": EOQ4, "lm_head": EOQ4}) == ("model.embed_tokens",)
    assert embeddings_of({"lm_head": EOQ4}) == ()
    with pytest.raises(FormatError, match=r"a\.wte and b\.wte have codes, and it cannot be told"):
        embeddings_of({"a.wte": EOQ4, "b.wte": EOQ4})
