"""The CUDA kernels compiled for the host, by the emulation in cuda_emulation/: as the library that
PyTorch loads, and as a program for sanitizers.

Objects are kept in build/emulation, and later only what changed is compiled. A process that comes
while another builds waits for it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cuda_build import ROOT, build_cuda

OBJECTS = ROOT / "build" / "emulation"
COMPILER = shutil.which("g++")

FLAGS = (
    *("-x", "c++", "-std=c++17", "-DJML_CUDA_EMULATION", "-I", "tests/cuda_emulation/include"),
    *("-fno-strict-aliasing", "-Wno-unknown-pragmas"),
)
SANITIZERS = {
    "none": (),
    "address": ("-g1", "-fsanitize=address,alignment", "-fno-sanitize-recover=all"),
    "thread": ("-g1", "-fsanitize=thread"),
}
#: For programs with a sanitizer: a second of sleep at the end is for threads that still run.
ENVIRONMENT = {
    **os.environ,
    "TSAN_OPTIONS": "atexit_sleep_ms=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@functools.cache
def require(sanitizer: str = "none") -> None:
    """Skip the test where there is no compiler, or no runtime of the sanitizer that works."""
    if COMPILER is None:
        pytest.skip("no g++")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "empty.cpp", Path(folder) / "empty"
        source.write_text("int main() {}\n", encoding="utf-8")
        compile_ = [COMPILER, *SANITIZERS[sanitizer], str(source), "-o", str(program)]
        works = all(
            subprocess.run(command, capture_output=True, check=False).returncode == 0
            for command in (compile_, [str(program)])
        )
    if not works:
        pytest.skip(f"no runtime of -fsanitize={sanitizer} that works here")


# ---- what is built -------------------------------------------------------------------------------


@functools.cache
def library() -> Path:
    """The operators, as a PyTorch loads them where JML_CUDA_EMULATION asks for it."""
    require()
    torch = Path(importlib.util.find_spec("torch").origin).parent
    version = f"-DTORCH_TARGET_VERSION={build_cuda.TORCH_TARGET_VERSION}"
    flags = ("-O1", "-fPIC", "-fvisibility=hidden", version, "-isystem", str(torch / "include"))
    link = ("-shared", "-Wl,--no-as-needed", f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu")
    sources = [Path(source) for source in build_cuda.sources()]
    with _alone():
        return _build(OBJECTS / "library", "libemulation.so", sources, (*FLAGS, *flags), link)


class Change(NamedTuple):
    """Of a file in csrc/: `before` is there once."""

    file: str
    before: str
    after: str


# ThreadSanitizer takes half a second for a block of 1024 threads that add up numbers, and there are
# many; fewer meet at the same barriers.
_SMALLER_BLOCKS = (
    Change("cuda/finish.cuh", "kFinishThreads = 1024", "kFinishThreads = 64"),
    Change("cuda/finish.cuh", "kFormulaThreads = 512", "kFormulaThreads = 64"),
)


@functools.cache
def run_kernels(sanitizer: str, changes: tuple[Change, ...] = ()) -> Path:
    """The program of cuda_emulation/run_kernels.cu, with the kernels of a copy of csrc/. With
    changes, those of cells, of hard labels and of dense targets beside labels have them."""
    require(sanitizer)
    smaller = _SMALLER_BLOCKS if sanitizer == "thread" else ()
    with _alone():
        kernels = _build_run_kernels(OBJECTS / sanitizer, sanitizer, smaller)
        if not changes:
            return kernels
        changed = OBJECTS / f"{sanitizer}_changed"
        return _build_run_kernels(changed, sanitizer, (*smaller, *changes), OBJECTS / sanitizer)


def _build_run_kernels(
    folder: Path, sanitizer: str, changes: tuple[Change, ...], unchanged: Path | None = None
) -> Path:
    csrc = _copy_csrc(folder, changes)
    names = [Path(name).stem for name in build_cuda.sources() if name.endswith("_kernels.cu")]
    planted = ("cell_kernels", "hard_kernels", "label_and_dense_kernels", "label_cell_kernels")
    again = [name for name in names if not unchanged or name in planted]
    sources = [Path("tests/cuda_emulation/run_kernels.cu")]
    sources += [csrc / "cuda" / f"{name}.cu" for name in again]
    # Templates that both have are linked from the first: the changed ones.
    others = [unchanged / f"{name}.o" for name in names if name not in again]
    optimize = "-O0" if unchanged else "-O1"  # what runs for a moment only is not worth it
    flags = (*FLAGS, optimize, *SANITIZERS[sanitizer], "-I", str(csrc))
    return _build(folder, "run_kernels", sources, flags, SANITIZERS[sanitizer], others)


def _copy_csrc(folder: Path, changes: tuple[Change, ...]) -> Path:
    """Relative to ROOT, as its files are. What is there already, and the same, stays as old as it
    is."""
    texts = {
        path.relative_to(ROOT / "csrc").as_posix(): path.read_text(encoding="utf-8")
        for pattern in ("*.h", "cuda/*")
        for path in (ROOT / "csrc").glob(pattern)
    }
    for change in changes:
        text = texts[change.file]
        assert text.count(change.before) == 1, f"{change.file}: not once: {change.before}"
        texts[change.file] = text.replace(change.before, change.after)
    for name, text in texts.items():
        path = folder / "csrc" / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return (folder / "csrc").relative_to(ROOT)


# ---- building ------------------------------------------------------------------------------------


def _alone() -> contextlib.AbstractContextManager:
    OBJECTS.mkdir(parents=True, exist_ok=True)
    return build_cuda.alone(OBJECTS)


def _build(
    folder: Path,
    name: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    link: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> Path:
    """Make `name` in the folder from sources, relative to ROOT, and from other objects that come
    after theirs. The caller holds the lock."""
    here = folder.relative_to(ROOT)
    objects = [here / f"{source.stem}.o" for source in sources]
    dollar = lambda words: shlex.join(map(str, words)).replace("$", "$$")  # noqa: E731
    lines = [
        f"builddir = {here}",  # for ninja's own log
        "rule compile",
        f"  command = {dollar([COMPILER, *flags])} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {dollar([COMPILER])} $in {dollar(link)} -o $out",
        *(f"build {to}: compile {of}" for to, of in zip(objects, sources, strict=True)),
        f"build {here / name}: link {' '.join(map(str, (*objects, *others)))}",
    ]
    jobs = os.environ.get("MAX_JOBS") or str(min(2, len(os.sched_getaffinity(0))))
    ninja = [sys.executable, "-m", "ninja"] if importlib.util.find_spec("ninja") else ["ninja"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [*ninja, "-j", jobs, "-f", str(here / "build.ninja")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / name
