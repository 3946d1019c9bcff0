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


if __name__ == "__main__":
    main()
