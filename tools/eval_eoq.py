#!/usr/bin/env python3
"""Compare GGUF files with the one they were made from. The same as `eoq eval`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.eval import main

sys.exit(main())
