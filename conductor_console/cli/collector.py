"""How often Python looks for garbage in a process of ours."""

from __future__ import annotations

import gc
from typing import Final

#: New objects before the newest are looked through, and how often that is done before older ones are as well. Each flow
#: that runs makes thousands, of which few outlive it: Python's 700 costs a tenth of the processor time, and a look at
#: all of a big board's objects stops every thread for a good part of a second. So much garbage takes a few megabytes.
THRESHOLDS: Final = (20_000, 20, 20)


def tune() -> None:
    """Called once, as the process starts."""
    gc.set_threshold(*THRESHOLDS)
