# SPDX-License-Identifier: ZPL-2.1
"""The processes of these tests are started by path, and their module is imported beside them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
