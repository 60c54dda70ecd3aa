"""Jobs kept in their order while some of them change."""

from __future__ import annotations

import bisect
from collections.abc import Collection
from typing import Final

from conductor_console.observatory.snapshot import JobView
from conductor_console.observatory.views import sort_key

#: So many times as many jobs as changes: each change by itself costs less than going through all the jobs.
_FEW: Final = 2000
#: With fewer jobs than so many to a change, sorting all of them costs less than finding each one's place.
_MANY: Final = 8


def reordered(jobs: list[JobView], old: Collection[JobView], new: Collection[JobView]) -> list[JobView]:
    """The jobs without the old ones and with the new ones, in order; the list that was given may be changed for it.

    :param jobs: in order.
    """
    if _FEW * (len(old) + len(new)) < len(jobs):
        for view in old:
            del jobs[bisect.bisect_left(jobs, sort_key(view), key=sort_key)]
        for view in new:
            bisect.insort_left(jobs, view, key=sort_key)
        return jobs
    gone = {view.key for view in old}
    kept = [view for view in jobs if view.key not in gone]
    if _MANY * len(new) > len(kept):
        return sorted((*kept, *new), key=sort_key)
    merged: list[JobView] = []
    begin = 0
    for view in sorted(new, key=sort_key):
        end = bisect.bisect_left(kept, sort_key(view), begin, key=sort_key)
        merged += kept[begin:end]
        merged.append(view)
        begin = end
    return merged + kept[begin:]
