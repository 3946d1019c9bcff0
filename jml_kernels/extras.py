"""What commands need beyond PyTorch. The losses import nothing of it; a command that lacks a
package says in one line how to install it."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingPackageError(ImportError):
    """A package of an extra is not installed; the message holds the command that installs it."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an extra of this package brings along, or one of this package's own that
    imports such modules.

    Raises:
        MissingPackageError: where a package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{error.name} is not installed. Install it with: pip install 'jml-kernels[{extra}]'"
        ) from error
