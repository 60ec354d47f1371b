"""The command line: `eoq convert`, `eoq plan` and so on; tools/ has a script for each."""
