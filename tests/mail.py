"""kombu's transport through files in a folder, for real workers without a broker.

Its own writes a message into the very file that others look for, so that they may read one that is not there yet.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: Any, **_kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        draft = folder / f".{name}.draft"
        draft.write_text(dumps(payload))
        draft.rename(folder / name)


class Transport(filesystem.Transport):
    Channel = Channel


def options(folder: Path) -> dict[str, Any]:
    """What the engine and its workers are told: each message is a file in ``folder``, looked for every 20 ms."""
    for name in ("mail", "read"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "exchange": "jobs",
        "transport": f"{__name__}:Transport",
        "transport_options": {
            "data_folder_in": str(folder / "mail"),
            "data_folder_out": str(folder / "mail"),
            "store_processed": True,
            "processed_folder": str(folder / "read"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.02,
        },
    }


def listening(folder: Path) -> bool:
    """Whether a worker has told where it listens."""
    return any(path.stat().st_size > 2 for path in (folder / "control").glob("*"))
