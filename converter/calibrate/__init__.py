"""Runs a model on text and measures the second moments of what flows into its tensors.

What does it, converter.calibrate.calibrate, is not here: it loads PyTorch and transformers.
"""
