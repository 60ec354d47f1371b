#!/usr/bin/env python3
"""Verify a GGUF file with EOQ types. The same as `eoq verify`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.verify import main

sys.exit(main())
