"""GGUF files: their heads, tensors and weights, read without trust and written whole."""
