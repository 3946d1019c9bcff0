"""Every CUDA kernel on the host, under AddressSanitizer and ThreadSanitizer: none reads or writes
beyond its tensors, none lacks a barrier, and bugs that are planted in them are seen."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from cuda_emulation_build import ENVIRONMENT, run_kernels
from cuda_planted import BUGS, changes, switch

# The kernels are compiled four times, and run slowly.
pytestmark = pytest.mark.slow

KINDS = ("cells", "label-cells", "hard", "label", "dense", "general", "tally")
PLANTED = [(sanitizer, name) for sanitizer, bugs in BUGS.items() for name in bugs]


def run(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        env=ENVIRONMENT | environment,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What the program says with AddressSanitizer, which has nothing to say itself."""
    done = run(run_kernels("address"))
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


# ---- the kernels ---------------------------------------------------------------------------------


def test_no_access_beyond(lines):
    assert sum(line.startswith("made") for line in lines) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_no_race(kind):
    done = run(run_kernels("thread"), kind)
    assert done.stderr == ""
    assert done.returncode == 0
    assert ("tally" if kind == "tally" else f"forward {kind}") in done.stdout


@pytest.mark.parametrize("order", ["reverse", "1"])
def test_no_result_depends_on_the_order_of_threads_and_blocks(lines, order):
    done = run(run_kernels("address"), JML_CUDA_EMULATION_ORDER=order)
    assert done.stdout.splitlines() == lines
    assert done.returncode == 0


# Classes x pixels of a thread, for few, some, many and most classes (csrc/cuda/configs.cuh).
TILES = {
    "forward": {
        "hard": ("8x8", "22x4", "22x2"),
        "label": ("8x4", "22x4", "22x2"),
        "dense": ("8x4", "20x2", "22x2", "22x1"),
        "dense+labels": ("8x4", "20x2", "22x1"),
    },
    "backward": {
        "hard": ("8x8", "22x2", "22x2"),
        "label": ("8x4", "22x2", "22x2"),
        "dense": ("8x4", "20x2", "22x2", "22x1"),
        "dense+labels": ("8x4", "20x2", "22x1"),
    },
}


def reached() -> set[str]:
    """Every kernel, in every way that it has of reading and of sharing out classes."""
    warps = [("1 warp",), ("1 warp", "several warps"), ("several warps",), ("several warps",)]
    found = set()
    for way, kinds in TILES.items():
        for kind, tiles in kinds.items():
            for tile, shares in zip(tiles, warps, strict=False):
                hows = ["strided", "staged unpadded", "staged padded"]
                if not tile.endswith("x1"):
                    hows.append("rows")
                ways = itertools.product(hows, shares)
                found |= {f"{way} {kind} float softmax {tile} {how} {by}" for how, by in ways}
    kernels, lower = [], []
    for number, tile in {"float": "4x2", "double": "4x1"}.items():
        activations = ("softmax", "sigmoid", "none")
        ways = itertools.product(activations, ("1 warp", "several warps", "several warps chunks"))
        kernels += [f"general {number} {how} {tile} strided {share}" for how, share in ways]
    # Logits of lower resolution are read in one way, and more classes are for general kernels.
    for tile, shares in (("8x4", warps[0]), ("20x2", warps[1])):
        lower += [f"label float softmax {tile} strided {share} upsampled" for share in shares]
    kernels += lower + [f"{kernel} upsampled" for kernel in kernels]
    found |= {f"{way} {kernel}" for way in TILES for kernel in kernels}
    # Backward, warps may be side by side too.
    for kind, (way, tile, share) in itertools.product(
        ("cells", "label-cells"),
        (
            ("forward", "8x1", "1 warp"),
            ("forward", "20x1", "1 warp"),
            ("forward", "20x1", "several warps"),
            ("backward", "8x1", "1 warp"),
            ("backward", "20x1", "several warps"),
        ),
    ):
        found.add(f"{way} {kind} float softmax {tile} strided {share} upsampled")
    return found


def test_all_kernels_are_run_in_all_ways(lines):
    found = {line for line in lines if not line.startswith("made")}
    assert reached() - found == set()


def reached_by_tallies() -> set[str]:
    patterns = ("rows", "strided", "staged unpadded", "staged padded")
    tiles = {"8x8": ("1 warp",), "22x4": ("1 warp", "several warps"), "22x2": ("several warps",)}
    ways = [
        *(f"float {tile} {how} {by}" for how in patterns for tile in tiles for by in tiles[tile]),
        *(f"double 4x1 strided {by}" for by in ("1 warp", "several warps", "several warps chunks")),
        "float 4x2 strided several warps chunks",
        "float 8x4 strided 1 warp upsampled",
        *(f"float 20x2 strided {by} upsampled" for by in ("1 warp", "several warps")),
        "float 4x2 strided several warps chunks upsampled",
        "double 4x1 strided several warps upsampled",
    ]
    pairs = (f"pairs {where}" for where in ("in a matrix", "of classes", "outside"))
    return {*ways, *pairs, *(f"bins {where}" for where in ("inside", "outside", "none"))}


def test_tallies_are_run_in_all_ways(lines):
    tallies = [line.removeprefix("tally ").split(", ") for line in lines if "tally" in line]
    assert reached_by_tallies() - {way for line in tallies for way in line} == set()


# ---- planted bugs --------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize(("sanitizer", "name"), PLANTED)
def test_planted_bugs_are_seen(sanitizer, name):
    bug = BUGS[sanitizer][name]
    assert bug.has_a_place(), f"{bug.file} has changed: not once in it: {bug.before}"
    program = run_kernels(sanitizer, changes(sanitizer))
    quick = "atexit_sleep_ms=0:halt_on_error=1:symbolize=0"
    done = run(program, bug.kernels, TSAN_OPTIONS=quick, **switch(sanitizer, name))
    assert done.returncode != 0
    assert (bug.said or "data race") in done.stderr


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["hard", "dense"])
def test_a_copy_without_them_is_clean(lines, kind):
    done = run(run_kernels("address", changes("address")), kind)
    assert done.stderr == ""
    assert set(done.stdout.splitlines()) <= set(lines)
