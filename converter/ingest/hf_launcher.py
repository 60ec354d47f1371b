"""Runs llama.cpp's convert_hf_to_gguf.py with code from model folders switched off. Started as a script by hf_convert.

    python hf_launcher.py LLAMA_DIR ARGUMENTS...

The converter loads some tokenizers with trust_remote_code=True, which would run any Python file that a model folder
brings along. All such loading goes through three functions of transformers, which are replaced here; if they are not
where they are expected, nothing runs. A configuration that loads another one by name while it is read is refused too,
and so are kernels of the hub.
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

REFUSAL = "eoq: the model needs code of its own"
"""Begins the message of the error that is raised where a model's own code would have run."""


def main() -> None:
    llama_dir, *arguments = sys.argv[1:]
    sys.path[0] = llama_dir  # in place of this package's folder, whose modules are not meant to be found

    import runpy

    from transformers import dynamic_module_utils

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(REFUSAL)  # what transformers raises where trust is missing

    def resolve_trust_remote_code(
        trust_remote_code: Any, model_name: Any, has_local_code: bool, has_remote_code: bool, *args: Any, **kwargs: Any
    ) -> bool:
        if has_remote_code and not has_local_code:
            refuse()
        return False

    replacements = {
        "resolve_trust_remote_code": resolve_trust_remote_code,
        "get_class_from_dynamic_module": refuse,
        "get_class_in_module": refuse,
    }
    for name, replacement in replacements.items():
        original = vars(dynamic_module_utils).get(name)
        if original is None:
            sys.exit(f"eoq: this version of transformers has no {name}, so its remote code cannot be switched off")
        for module in [m for m in sys.modules.values() if vars(m).get(name) is original]:
            setattr(module, name, replacement)

    sys.modules["kernels"] = None  # type: ignore[assignment]  # importing it fails
    _refuse_other_configurations(refuse)
    _read_newer_tokenizers()

    script = f"{llama_dir}/convert_hf_to_gguf.py"
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def _refuse_other_configurations(refuse: Callable[[], NoReturn]) -> None:
    """While one configuration is read, no other is: models that are built around another one load it by its name."""
    from transformers import AutoConfig, PretrainedConfig

    reading = 0

    def guarded(original: Any) -> Any:
        def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal reading
            if reading:
                refuse()
            reading += 1
            try:
                return original.__func__(cls, *args, **kwargs)
            finally:
                reading -= 1

        return classmethod(from_pretrained)

    for owner in (AutoConfig, PretrainedConfig):
        owner.from_pretrained = guarded(vars(owner)["from_pretrained"])


def _read_newer_tokenizers() -> None:
    """What transformers 5 writes into tokenizer_config.json under names of its own, for transformers 4."""
    import transformers
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    if hasattr(transformers, "TokenizersBackend"):
        return
    transformers.TokenizersBackend = PreTrainedTokenizerFast
    named = PreTrainedTokenizerBase._set_model_specific_special_tokens

    def with_list(self: Any, special_tokens: Any) -> None:
        if isinstance(special_tokens, list):
            self._special_tokens_map["additional_special_tokens"] = list(special_tokens)
        else:
            named(self, special_tokens)

    PreTrainedTokenizerBase._set_model_specific_special_tokens = with_list


if __name__ == "__main__":
    main()
