#!/usr/bin/env python3
"""Write a folder of EOQ codes for transformers. The same as `eoq export-hf`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.export_hf import main

sys.exit(main())
