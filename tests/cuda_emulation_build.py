"""The CUDA kernels compiled for the host, by the emulation in cuda_emulation/: as the library that
PyTorch loads, and as a program for sanitizers.

Objects are kept in build/emulation, and later only what changed is compiled. A process that comes
while another builds waits for it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
    folder = OBJECTS / "probe" / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}\n", encoding="utf-8")
    compile_ = [COMPILER, *SANITIZERS[sanitizer], str(source), "-o", str(program)]
    works = all(
        subprocess.run(command, capture_output=True, check=False).returncode == 0
        for command in (compile_, [str(program)])
    )
    shutil.rmtree(folder)
    if not works:
        pytest.skip(f"no runtime of -fsanitize={sanitizer} that works here")


# ---- what is built -------------------------------------------------------------------------------


@functools.cache
def library() -> Path:
    """The operators, as a PyTorch loads them (JML_CUDA_EMULATION, see jml_kernels/backends.py)."""
    require()
    torch = Path(importlib.util.find_spec("torch").origin).parent
    version = f"-DTORCH_TARGET_VERSION={build_cuda.TORCH_TARGET_VERSION}"
    flags = ("-O1", "-fPIC", "-fvisibility=hidden", version, "-isystem", str(torch / "include"))
    link = ("-shared", "-Wl,--no-as-needed", f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu")
    sources = [Path(source) for source in build_cuda.sources()]
    return _build(OBJECTS / "library", "libemulation.so", sources, (*FLAGS, *flags), link)


# ---- building ------------------------------------------------------------------------------------


def _build(
    folder: Path,
    name: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    link: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> Path:
    """Make `name` in the folder from sources, and from other objects that come after theirs. All
    that commands name is relative to ROOT."""
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
    with build_cuda._alone(OBJECTS):
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
