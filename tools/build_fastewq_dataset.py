#!/usr/bin/env python3
"""Add models to the data set that FastEWQ learns from. The same as `eoq fastewq-dataset`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.fastewq_dataset import main

sys.exit(main())
