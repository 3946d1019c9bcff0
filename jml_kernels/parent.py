"""Processes that end with the one that started them, however that ends: their standard input is a
pipe that it holds open, and that the system closes, after SIGKILL too."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Asks a command to end with its standard input.
_ASKED = "JML_ENDS_WITH_STANDARD_INPUT"


def end_with_parent() -> None:
    """End this process when its standard input does."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def held() -> Iterator[dict]:
    """Arguments of `subprocess.run` for a command that calls `end_where_asked`."""
    read, write = os.pipe()
    try:
        yield {"stdin": read, "env": os.environ | {_ASKED: "1"}}
    finally:
        os.close(read)
        os.close(write)


def end_where_asked() -> None:
    if os.environ.pop(_ASKED, None):
        end_with_parent()
