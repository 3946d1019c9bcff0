"""Compiles csrc/cuda/*.cu with plain nvcc and ninja: no GPU and no CUDA build of PyTorch is needed.

It makes two files of the package:

    _cuda.so          the kernels; no Python module, so that one file serves every Python
    _cuda.ptxas.txt   what the assembler says of each of them (jml_kernels/cuda_resources.py)

and is a module beside setup.py so that tests can call it too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
REPORT = "_cuda.ptxas.txt"
TOOLKIT = "/usr/local/cuda"
# One binary for PyTorch 2.11 and newer, through the stable ABI.
TORCH_TARGET_VERSION = "0x020b000000000000"
#: Data centre GPUs from Ampere on; machine code for each runs on later ones of its generation, and
#: the newest one's PTX on whatever comes after.
ARCHITECTURES = ("8.0", "9.0", "10.0")
#: Whose PTX these are made from, by default. The kernels use nothing that Hopper has beyond Ampere:
#: of Ampere's PTX the assembler makes the same machine code for it, and the compiler, which takes
#: the longest, runs once less.
PTX_OF = {"8.0": "8.0", "9.0": "8.0", "10.0": "10.0"}

FLAGS = (
    "-O3",
    "-std=c++17",
    "--expt-relaxed-constexpr",
    "--extended-lambda",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall",
    "-Werror=all-warnings",
    "-Xptxas=-v",
    "-DUSE_CUDA",
    f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
)

# ---- what is there -------------------------------------------------------------------------------


def sources() -> list[str]:
    """Relative to `ROOT`, as everything that a command names: unpacked elsewhere, the same sources
    are the same commands, and objects that are kept stay good."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("csrc/cuda/*.cu"))


def _toolkit() -> tuple[str, str] | None:
    """(variable, folder) of the toolkit that the environment names."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            return variable, os.environ[variable]
    return None


def nvcc() -> str | None:
    """The compiler: of the toolkit that the environment names and of no other, else on PATH, else
    where toolkits are installed."""
    named = _toolkit()
    if named is not None:
        return shutil.which("nvcc", path=os.path.join(named[1], "bin"))
    return shutil.which("nvcc") or shutil.which("nvcc", path=os.path.join(TOOLKIT, "bin"))


def missing() -> str | None:
    """Why the kernels cannot be built here; None if a compiler can be asked to."""
    if not sys.platform.startswith("linux"):
        return "they are built on Linux only"
    if nvcc() is not None:
        return None if sources() else "there are no sources in csrc/cuda"
    named = _toolkit()
    if named is not None:
        return f"no nvcc in {os.path.join(named[1], 'bin')} ({named[0]} names it)"
    return f"no nvcc in CUDA_HOME or CUDA_PATH (not set), on PATH or in {TOOLKIT}/bin"


# ---- for which GPUs ------------------------------------------------------------------------------


def asked_architectures() -> list[str]:
    """What TORCH_CUDA_ARCH_LIST names; the process ends where that is no list of numbers."""
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    for name in asked:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", name):
            sys.exit(
                f"TORCH_CUDA_ARCH_LIST: {name!r}: expected numbers, as in '8.0 9.0a 10.0+PTX'"
                " (names of generations are not known here)"
            )
    return asked


def architectures() -> list[str]:
    """-gencode flags for TORCH_CUDA_ARCH_LIST, or for `ARCHITECTURES` as far as nvcc knows them."""
    asked = asked_architectures()
    ptx_of: dict[str, str] = {}
    if not asked:
        command = [nvcc(), "--list-gpu-arch"]
        known = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        asked = [name for name in ARCHITECTURES if f"compute_{_number(name)}" in known]
        if not asked:
            sys.exit(f"{nvcc()} knows none of {', '.join(ARCHITECTURES)}: is it a newer one?")
        if asked[0] == ARCHITECTURES[0]:
            ptx_of = PTX_OF
        asked[-1] += "+PTX"
    flags = []
    for name in asked:
        real = name.removesuffix("+PTX")
        number, of_ptx = _number(real), _number(ptx_of.get(real, real))
        flags += [f"-gencode=arch=compute_{of_ptx},code=sm_{number}"]
        if name.endswith("+PTX"):
            flags += [f"-gencode=arch=compute_{of_ptx},code=compute_{of_ptx}"]
    return list(dict.fromkeys(flags))


def _number(name: str) -> str:
    return name.replace(".", "")


# ---- building ------------------------------------------------------------------------------------


def build(library: Path, objects: Path) -> None:
    """Make the library, and the report beside it.

    Args:
        objects: a folder for what is compiled: what is there already and has not changed is kept.
            JML_CUDA_OBJECTS in the environment names another.
    Raises:
        RuntimeError: where a source does not compile, after the compiler's own words.
    """
    objects = Path(os.environ.get("JML_CUDA_OBJECTS") or objects).resolve()
    with alone(objects):
        file = objects / "build.ninja"
        file.write_text(_ninja_file(objects))
        jobs = os.environ.get("MAX_JOBS") or str(len(os.sched_getaffinity(0)))
        ninja = [sys.executable, "-m", "ninja"] if importlib.util.find_spec("ninja") else ["ninja"]
        done = subprocess.run([*ninja, "-j", jobs, "-f", str(file)], cwd=ROOT, check=False)
        if done.returncode != 0:
            raise RuntimeError("nvcc fails, in its own words above")
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(objects / "_cuda.so", library)
        library.with_name(REPORT).write_text(_report(objects))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Another process that builds there waits, and then finds it done."""
    import fcntl  # noqa: PLC0415  # not on Windows, where setup.py still imports this

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compilers() -> list[str]:
    """nvcc, with the host compiler that the environment names; NVCC_CCBIN it reads by itself."""
    host = os.environ.get("CXX", "").split()
    return [nvcc(), *([f"-ccbin={host[0]}"] if host and "NVCC_CCBIN" not in os.environ else [])]


def _ninja_file(objects: Path) -> str:
    torch = Path(importlib.util.find_spec("torch").origin).parent
    # System headers, so that warnings are of ours alone.
    compile_ = shlex.join(
        [*_compilers(), *FLAGS, *architectures(), "-isystem", str(torch / "include")]
    )
    # A PyTorch without CUDA lacks the symbol that gives the stream. libtorch.so brings in whichever
    # libraries its PyTorch has; what is not found here is looked for when the kernels are loaded.
    torch_library = (f"-L{torch / 'lib'}", "-Xlinker=--no-as-needed", "-ltorch")
    link = shlex.join([*_compilers(), "-shared", "-cudart=static", *torch_library])
    dollar = lambda text: text.replace("$", "$$")  # noqa: E731
    lines = [
        f"builddir = {dollar(str(objects))}",  # for its own log
        "rule compile",
        f"  command = {dollar(compile_)} -MD -MF $out.d -c $in -o $out >$log 2>&1"
        " || { cat $log >&2; exit 1; }",
        "  description = nvcc $in",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {dollar(link)} $in -o $out",
        "  description = link $out",
    ]
    made = []
    for source in sources():
        stem = objects / Path(source).stem
        made.append(_escaped(f"{stem}.o"))
        lines += [
            f"build {made[-1]} | {_escaped(f'{stem}.log')}: compile {_escaped(source)}",
            f"  log = {dollar(shlex.quote(f'{stem}.log'))}",
        ]
    lines += [f"build {_escaped(str(objects / '_cuda.so'))}: link {' '.join(made)}"]
    return "\n".join(lines) + "\n"


def _escaped(path: str) -> str:
    return re.sub(r"([$ :])", r"$\1", path)


def _report(objects: Path) -> str:
    """What the assembler said, with readable names where there is a program that knows them."""
    logs = [(objects / Path(source).stem).with_suffix(".log").read_text() for source in sources()]
    text = "".join(logs)
    if shutil.which("c++filt") is None:
        return text
    done = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True)
    return done.stdout
