"""How many pictures are decoded or encoded at a time: each takes some 300 MB with its copies, whoever sends them."""

from __future__ import annotations

import threading

AT_ONCE = 2
SLOTS = threading.BoundedSemaphore(AT_ONCE)  # held by one who decodes or encodes; never taken twice
