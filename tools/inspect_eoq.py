#!/usr/bin/env python3
"""Show what is in a GGUF file. The same as `eoq inspect`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.inspect import main

sys.exit(main())
