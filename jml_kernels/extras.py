"""What commands need beyond the base installation: found lazily, missed in plain words."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingPackageError(Exception):
    """A package of an extra is not installed; the message holds the command that installs it."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an extra of this package.

    Raises:
        MissingPackageError: where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{module} is not installed. Install it with:\n  pip install 'jml-kernels[{extra}]'"
        ) from error
