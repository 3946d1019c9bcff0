"""The settings of the C library's allocator: they decide what half of the naive time is, the page
faults of freshly mapped memory. It reads them when a process starts, so each has a process."""

from __future__ import annotations

import os

#: "warm": freed memory stays with the process, so that no step but the first meets a page fault.
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "warm": {
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
    },
}


def environment(allocator: str) -> dict[str, str]:
    """The environment of a process with one of `SETTINGS`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    return kept | SETTINGS[allocator]
