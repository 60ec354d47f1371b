"""Files that are read: ordinary ones alone, and JSON and TOML that end in an error of ours whatever is in them."""
