"""What ends up in an sdist and in a wheel, and that the wheel works where there is nothing else.

The compiled wheel is built once, from the sdist: a header that it lacks would show.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from cuda_build import ROOT, VARIABLES, build_cuda

import jml_kernels as jml
from jml_kernels import cuda_resources

SOURCES = (
    "benchmarks",
    "csrc",
    "jml_kernels",
    "tests",
    "triton_kernels",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "build_cuda.py",
    "pyproject.toml",
    "setup.py",
)
STALE = ("_cpu.stale.so", "_cuda.so", "_cuda.ptxas.txt")
JUNK = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc", ".*", "_cuda.ptxas.txt")

needs_compiler = pytest.mark.skipif(
    jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
)

# ---- building ------------------------------------------------------------------------------------


def build(kind: str, source: Path, out: Path, jml_build: str, **variables: str):
    """Call a hook of the build backend, "sdist" or "wheel", as pip does."""
    out.mkdir(exist_ok=True)
    call = f"import setuptools.build_meta as b; b.build_{kind}({str(out)!r})"
    # ninja lies beside the interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-c", call],
        cwd=source,
        env=os.environ | {"JML_BUILD": jml_build, "PATH": path} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def built(kind: str, source: Path, out: Path, jml_build: str, **variables: str) -> Path:
    done = build(kind, source, out, jml_build, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """The sources as they are in a checkout in use: with kernel libraries of another time."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=JUNK)
        else:
            shutil.copy(path, folder / name)
    for name in STALE:
        (folder / "jml_kernels" / name).touch()
    return folder


@pytest.fixture(scope="session")
def sdist(checkout, tmp_path_factory) -> Path:
    return built("sdist", checkout, tmp_path_factory.mktemp("sdist") / "out", "none")


@pytest.fixture
def unpacked(sdist, tmp_path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    return folder


class Wheel(NamedTuple):
    choice: str
    """of JML_BUILD"""
    file: Path


def wheel_of(choice: str, source: Path, out: Path) -> Wheel:
    return Wheel(choice, built("wheel", source, out, choice, **VARIABLES))


@pytest.fixture(scope="session")
def pure_wheel(sdist, tmp_path_factory) -> Wheel:
    """Made from the sdist, without kernels."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return wheel_of("none", source, folder / "out")


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


# ---- inside --------------------------------------------------------------------------------------


def test_the_sdist_holds_all_sources(sdist, checkout):
    with tarfile.open(sdist) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    # Building the sdist imports build_cuda.py, of which Python may keep byte code.
    every = (path.relative_to(checkout) for path in checkout.rglob("*") if path.is_file())
    files = {path for path in every if path.suffix != ".pyc"}
    made = {path for path in files if path.name in STALE or path.parts[0].endswith(".egg-info")}
    assert len(made) > len(STALE), "the libraries of another time are missing"
    assert files - made <= set(names)
    assert Path("csrc/pixel_math.h") in names
    assert {file.relative_to(ROOT) for file in ROOT.glob("csrc/cuda/*.cu*")} <= set(names)
    assert not [name for name in names if name.suffix in (".so", ".pyc") or name.name in STALE]


def assert_holds_every_module_and_nothing_else(wheel: Wheel, checkout: Path) -> None:
    names = members(wheel.file)
    (info,) = {name.split("/")[0] for name in names} - {"jml_kernels"}
    assert info == f"jml_kernels-{jml.__version__}.dist-info"
    code = {name for name in names if not name.startswith(info)}
    libraries = ("jml_kernels/_cpu.", "jml_kernels/_cuda.")
    kernels = {name for name in code if name.startswith(libraries)}
    assert len(kernels) == {"none": 0, "cpu": 1, "cuda": 3}[wheel.choice]

    package = {path.relative_to(checkout) for path in checkout.glob("jml_kernels/**/*.py")}
    mapped = {path.relative_to(checkout) for path in checkout.glob("triton_kernels/**/*.py")}
    modules = {path.as_posix() for path in package} | {
        f"jml_kernels/{p.as_posix()}" for p in mapped
    }
    assert code - kernels == modules | {"jml_kernels/py.typed"}
    assert "jml_kernels/triton_kernels/__init__.py" in modules


def assert_says_what_it_is(wheel: Wheel) -> None:
    with zipfile.ZipFile(wheel.file) as archive:
        info = f"jml_kernels-{jml.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        tags = archive.read(f"{info}/WHEEL").decode()
        commands = archive.read(f"{info}/entry_points.txt").decode()
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert f"Version: {jml.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Dist: torch>=" in metadata
    assert (ROOT / "README.md").read_text(encoding="utf-8") in metadata
    assert "jml-kernels = jml_kernels.__main__:main" in commands
    assert ("Tag: py3-none-any" in tags) == (wheel.choice == "none")


# ---- installed -----------------------------------------------------------------------------------

SCRIPT = """
import json, sys
# An editable install would lend its library to a wheel that has none.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import torch
import jml_kernels as jml
import jml_kernels.triton_kernels

try:
    import triton_kernels
except ModuleNotFoundError as error:
    top_level = error.name
loss = jml.JaccardMetricLoss()
logits = torch.zeros(1, 2, 3, requires_grad=True)
value = loss(logits, torch.zeros(1, 3, dtype=torch.int64))
value.backward()
try:
    jml.JaccardMetricLoss(backend="cpu")(logits, torch.zeros(1, 3, dtype=torch.int64))
    asked = None
except RuntimeError as error:
    asked = str(error)
print(json.dumps({
    "files": [jml.__file__, jml.triton_kernels.__file__],
    "backends": jml.backends(),
    "loss": value.item(),
    "gradient": logits.grad.tolist(),
    "asked for cpu": asked,
    "top level": top_level,
}))
"""


def install(wheel: Wheel, target: Path) -> Path:
    """A folder with nothing but the wheel; PyTorch comes from the interpreter's environment."""
    options = "pip install --quiet --no-deps --no-index --disable-pip-version-check --target"
    command = [sys.executable, "-m", *options.split(), str(target), str(wheel.file)]
    subprocess.run(command, check=True)
    return target


def assert_works_elsewhere(wheel: Wheel, tmp_path: Path) -> None:
    installed = install(wheel, tmp_path / "target")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == [
        str(installed / "jml_kernels" / "__init__.py"),
        str(installed / "jml_kernels" / "triton_kernels" / "__init__.py"),
    ]
    assert found["top level"] == "triton_kernels"
    assert found["loss"] == pytest.approx(0.5)  # x = 1/2 at 3 pixels: 1 - 1.5 / 3
    # d loss / d x is -1/3 at each of 3 pixels, d x / d z is 1/4.
    assert found["gradient"] == [[pytest.approx([-1 / 12] * 3), pytest.approx([1 / 12] * 3)]]
    assert found["backends"]["reference"] is None
    if wheel.choice == "none":
        assert "was not built" in found["backends"]["cpu"]
        assert "was not built" in found["asked for cpu"]
    else:
        assert found["backends"]["cpu"] is None
        assert found["asked for cpu"] is None
    if wheel.choice == "cuda":
        if torch.version.cuda is None:
            assert found["backends"]["cuda"] == "this PyTorch has no CUDA"
        else:
            assert found["backends"]["cuda"] in (None, "PyTorch finds no GPU for it here")

    command = subprocess.run(
        [installed / "bin" / "jml-kernels", "--help"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert command.returncode == 0, command.stderr
    assert "train" in command.stdout


def test_the_wheel_without_kernels(pure_wheel, checkout, tmp_path):
    assert_holds_every_module_and_nothing_else(pure_wheel, checkout)
    assert_says_what_it_is(pure_wheel)
    assert_works_elsewhere(pure_wheel, tmp_path)


# The kernels are compiled: a minute and more. One test: a second would build them again on another
# worker.
@pytest.mark.slow
@pytest.mark.long
@needs_compiler
def test_the_wheel_with_kernels(unpacked, checkout, tmp_path):
    """With those of CUDA where there is nvcc; no PyTorch without CUDA loads them."""
    choice = "cpu" if build_cuda.missing() else "cuda"
    wheel = wheel_of(choice, unpacked, tmp_path / "out")
    assert_holds_every_module_and_nothing_else(wheel, checkout)
    assert_says_what_it_is(wheel)
    assert_works_elsewhere(wheel, tmp_path)
    if choice == "cuda":
        with zipfile.ZipFile(wheel.file) as archive:
            assert archive.read("jml_kernels/_cuda.so").startswith(b"\x7fELF")
            report = archive.read("jml_kernels/_cuda.ptxas.txt").decode()
        assert cuda_resources.parse(report)


def test_the_folder_of_triton_kernels_is_no_package_of_that_name():
    """Another package owns it: from the root of the repository the import fails, saying so."""
    done = subprocess.run(
        [sys.executable, "-c", "import triton_kernels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "jml_kernels.triton_kernels" in done.stderr


# ---- JML_BUILD -----------------------------------------------------------------------------------


# A toolkit that is named and not there.
NO_NVCC = {"CUDA_HOME": "/nowhere"}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("cuda", "JML_BUILD='cuda': the CUDA kernels cannot be built: no nvcc in /nowhere/bin"),
        ("gpu", "JML_BUILD='gpu': expected one of 'auto', 'cpu', 'cuda', 'none'"),
    ],
)
def test_a_choice_that_cannot_be_built(choice, said, unpacked):
    done = build("wheel", unpacked, unpacked / "out", choice, **NO_NVCC)
    assert done.returncode != 0
    assert said in done.stderr
    assert not list((unpacked / "out").iterdir())


# Compilers that fail at once.
BROKEN = {"CC": "false", "CXX": "false", "NVCC_CCBIN": "false"}


@pytest.mark.parametrize("choice", ["auto", ""])
def test_auto_goes_on_where_the_compiler_fails(choice, unpacked):
    """A variable that is set to nothing chooses nothing."""
    done = build("wheel", unpacked, unpacked / "out", choice, **BROKEN)
    assert done.returncode == 0, done.stderr
    assert "the CPU kernels are left out" in done.stderr
    assert "the CUDA kernels are left out" in done.stderr
    (file,) = (unpacked / "out").iterdir()
    assert not [name for name in members(file) if name.endswith(".so")]
    assert "jml_kernels/__init__.py" in members(file)


def test_cpu_fails_where_the_compiler_fails(unpacked):
    done = build("wheel", unpacked, unpacked / "out", "cpu", **BROKEN)
    assert done.returncode != 0
    assert "'false'" in done.stderr


def test_auto_goes_on_where_there_is_no_nvcc(unpacked):
    done = build("wheel", unpacked, unpacked / "out", "auto", **BROKEN, **NO_NVCC)
    assert done.returncode == 0, done.stderr
    assert "the CUDA kernels are left out: no nvcc in /nowhere/bin" in done.stderr


def test_an_unknown_gpu_fails_even_where_auto_goes_on(unpacked, tmp_path_factory):
    """What was asked for is not left out in silence, and nothing is compiled before it is read."""
    toolkit = tmp_path_factory.mktemp("toolkit")
    nvcc = toolkit / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    asked = {"TORCH_CUDA_ARCH_LIST": "Hopper", "CUDA_HOME": str(toolkit)}
    done = build("wheel", unpacked, unpacked / "out", "auto", **BROKEN, **asked)
    assert done.returncode != 0
    assert "TORCH_CUDA_ARCH_LIST: 'Hopper': expected numbers" in done.stderr
    assert "left out" not in done.stderr
    assert "false" not in done.stdout + done.stderr
