"""The entry point of the command `jml-kernels`, which is also `python -m jml_kernels`.

It stands here and not in the package `cli` because that package cannot be imported without the
extra "cli".
"""

from __future__ import annotations

import sys

from .extras import MissingPackageError, import_extra


def main() -> None:
    try:
        cli = import_extra("jml_kernels.cli", "cli")
    except MissingPackageError as error:
        sys.exit(f"Error: {error}")
    cli.app(prog_name="jml-kernels")


def _leave_out_current_folder() -> None:
    """`python -m` looks for modules in the current folder first: a command is not to run a
    triton.py that happens to lie there."""
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]


if __name__ == "__main__":
    _leave_out_current_folder()
    main()
