"""Finished GGUF files: whether they are sound, and what is in them."""
