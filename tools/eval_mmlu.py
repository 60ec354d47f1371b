#!/usr/bin/env python3
"""Accuracy and perplexity of a model on MMLU questions. The same as `eoq mmlu`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.mmlu import main

sys.exit(main())
