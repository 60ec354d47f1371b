#!/usr/bin/env python3
"""Convert a model to a GGUF file with EOQ tensor types. The same as `eoq convert`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.convert import main

sys.exit(main())
