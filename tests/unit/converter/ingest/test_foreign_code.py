"""Keys of configurations that load code or models from elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from converter.ingest.foreign_code import check_no_foreign_code
from gguf_files.errors import SourceError

PATH = Path("model/config.json")


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"trust_remote_code": 1}, "trust_remote_code = 1"),
        ({"a": {"b": [{"trust_remote_code": "yes"}]}}, r"a\.b\[0\]\.trust_remote_code = 'yes'"),
        ({"attn_implementation": "x/y"}, "attn_implementation = 'x/y'"),
        ({"_attn_implementation_internal": "x/y"}, "_attn_implementation_internal = 'x/y'"),
        ({"text_config": {"_attn_implementation": {"": "sdpa", "b": "x"}}}, r"text_config\._attn_implementation = "),
        ({"backbone": "resnet"}, "backbone = 'resnet'"),
        ({"backbone_kwargs": {}}, r"backbone_kwargs = \{\}"),
        ({"keypoint_detector_config": {"x": "y" * 99}}, r"keypoint_detector_config = .*\.\.\., which"),
    ],
)
def test_they_are_refused_by_name(config: dict[str, Any], where: str) -> None:
    with pytest.raises(SourceError, match=rf"model/config.json has {where}.*; remove it if you trust the model"):
        check_no_foreign_code(PATH, config)


def test_what_sound_models_have_is_not() -> None:
    check_no_foreign_code(
        PATH,
        {
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
            "_attn_implementation": "flash_attention_2",
            "_attn_implementation_autoset": True,
            "attn_implementation": None,
            "trust_remote_code": False,
            "use_timm_backbone": False,
            "text_config": {"_attn_implementation": {"": "eager"}},
        },
    )


def test_deep_nesting_is_walked() -> None:
    config: dict[str, Any] = {"trust_remote_code": True}
    for _ in range(50_000):
        config = {"": config}
    with pytest.raises(SourceError, match="trust_remote_code = True"):
        check_no_foreign_code(PATH, config)
