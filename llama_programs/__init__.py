"""The pinned llama.cpp on this machine: fetched, patched, built, found; and the one place that starts programs."""
