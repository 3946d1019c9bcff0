"""Counts and predictions for the CUDA kernels, without a GPU: `python -m benchmarks.sass`.

Builds the kernels as the tests do, interprets a block of each kernel of the rows, and prints what a
thread issues for an element of the logits, how long issuing and the whole pass take as multiples of
the floor, and the share of the speed of a copy that follows, beside the measured one where there is
one. Writes benchmarks/results/sass.json, which tests hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import build
from .devices import DEVICES


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sass",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="TEXT", help="rows whose name has this; writes nothing")
    parser.add_argument("--fit", metavar="GPU", choices=DEVICES, help="fit constants (fit.py)")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    return parser.parse_args(argv)


def main() -> None:
    options = arguments()
    reason = build.missing()
    if reason is not None:
        sys.exit(reason)
    built = build.build()
    os.environ["JML_CUDA_EMULATION"] = str(built.emulation)  # before the package is imported
    from . import document, fit, rows, static, table, triton  # noqa: PLC0415

    if options.list:
        print(*(row.name for row in rows.ROWS), sep="\n")
        return

    def say(text: str) -> None:
        print(text, flush=True)

    if options.fit:
        fit.fit(options.fit, table.launches_of(built), say)
        return
    chosen = tuple(row for row in rows.ROWS if (options.only or "") in row.name)
    if not chosen:
        sys.exit(f"--only {options.only!r}: no row has this; --list prints their names")
    if options.only is not None:
        table.rows_of(chosen, built, say)
        return
    content = {
        "nvcc": table.compiler(built.nvcc),
        "static": static.table(built.objects),
        "triton": triton.table(),
        "rows": table.rows_of(chosen, built, say),
    }
    document.FILE.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {document.FILE}")


if __name__ == "__main__":
    main()
