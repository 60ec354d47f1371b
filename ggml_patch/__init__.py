"""EOQ inside llama.cpp: sources, the list of edits that hooks them in, and the tool that applies it."""
