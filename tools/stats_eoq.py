#!/usr/bin/env python3
"""Collect, show, compare, merge and mix the statistics that calibrated conversions use. The same as `eoq stats`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.stats import main

sys.exit(main())
