"""Has llama.cpp run a model on text, and the second moments of what flows into its tensors measured."""
