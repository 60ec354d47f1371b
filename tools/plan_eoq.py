#!/usr/bin/env python3
"""Plan which tensor of a model gets which type. The same as `eoq plan`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eoq.plan import main

sys.exit(main())
