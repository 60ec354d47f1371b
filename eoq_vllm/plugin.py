"""What vLLM calls in each of its processes."""


def register() -> None:
    """Make the quantisation method `eoq` known to vLLM, which must be installed. Any number of calls do no harm."""
    import eoq_vllm.configuration  # noqa: F401 — it registers itself, and needs vLLM
