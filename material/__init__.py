"""Models and texts that tests, benchmarks and the demo use. All come from PyPI and stay in the cache."""
