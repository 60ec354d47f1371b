"""Sizes in words."""


def size_text(count: int) -> str:
    """Bytes as `1.50 GiB` or `3.0 MiB`."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
