"""Machine code of GPU kernels as files hold it: cubins, which are ELF files, taken out of objects
and libraries by NVIDIA's cuobjdump."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .elf import Elf

#: Of an instruction, on every architecture since Volta.
INSTRUCTION_BYTES = 16
_TEXT = ".text."


@functools.cache
def cuobjdump() -> Path | None:
    """The program of a toolkit, or the one that Triton brings."""
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if found is not None:
        return Path(found)
    triton = importlib.util.find_spec("triton")
    if triton is None or triton.origin is None:
        return None
    path = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return path if path.exists() else None


def missing() -> str | None:
    """Why machine code cannot be read here, in words."""
    return None if cuobjdump() else "there is no cuobjdump, of a CUDA toolkit or of Triton"


def run(*arguments: object, folder: str | None = None) -> str:
    """What cuobjdump says.

    Raises:
        FileNotFoundError: where there is none.
        RuntimeError: where it fails, in its own words.
    """
    program = cuobjdump()
    if program is None:
        raise FileNotFoundError(missing())
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def extracted(path: Path, target: str) -> Iterator[bytes]:
    """The cubins of an object or a library for an architecture."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--extract-elf", "all", "--gpu-architecture", target, path.resolve())
        run(*arguments, folder=folder)
        for cubin in sorted(Path(folder).iterdir()):
            yield cubin.read_bytes()


def kernels(elf: Elf) -> dict[str, int]:
    """The mangled names in a cubin, and how many instructions each has, with the few that fill it
    up."""
    return {
        section.name.removeprefix(_TEXT): len(section.bytes) // INSTRUCTION_BYTES
        for section in elf.sections
        if section.name.startswith(_TEXT)
    }
