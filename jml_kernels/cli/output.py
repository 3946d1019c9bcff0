"""Where a command writes: a file that is tried before anything runs, since measuring
may take an hour, or standard output, which then carries nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

#: Given as the file of --json, it stands for standard output.
STDOUT = Path("-")


def check_file(option: str, file: Path | None) -> None:
    """Raise a ValueError where a file cannot be written. One that is there keeps its content, and
    one that is not is not left behind."""
    if file is None or (option == "--json" and file == STDOUT):
        return
    given = f"{option}={str(file)!r}"
    try:
        is_new = not file.exists()
        if file.is_dir() or not file.resolve().parent.is_dir():
            raise ValueError(f"{given}: expected a file in a folder that exists")
        if is_new or file.is_file():  # not a device or a pipe, which opening may disturb
            file.open("ab").close()
    except OSError as error:
        raise ValueError(f"{given}: expected a file that can be written: {error}") from error
    if is_new:
        file.unlink()


def console(json_file: Path | None) -> Console:
    """For what people read: on standard error where standard output is to be JSON."""
    return Console(stderr=json_file == STDOUT)


def write_json(content: dict[str, object], file: Path, console: Console) -> bool:
    """Whether the file could be written. Where it could not, the error goes to standard error and
    the content to standard output, so that nothing is lost."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if file != STDOUT:
        try:
            file.write_text(text, encoding="utf-8")
            console.print(f"Numbers: {file}", soft_wrap=True, highlight=False, markup=False)
            return True
        except OSError as error:
            tell_error(f"{error}; its content goes to standard output")
    sys.stdout.write(text)
    sys.stdout.flush()
    return file == STDOUT


def tell_error(text: str) -> None:
    Console(stderr=True).print(f"Error: {text}", markup=False, soft_wrap=True)
