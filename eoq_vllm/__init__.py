"""Models of EOQ codes in vLLM: the plugin that its entry point `vllm.general_plugins` names."""

from eoq_vllm.plugin import register

__all__ = ["register"]
