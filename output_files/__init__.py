"""Files that are written: where they may go, and how they appear whole or not at all."""
