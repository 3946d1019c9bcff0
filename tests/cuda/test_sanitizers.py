"""Every CUDA kernel on the host, under AddressSanitizer and ThreadSanitizer: none reads or writes
beyond its tensors, none lacks a barrier, and bugs that are planted in them are seen."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from cuda_emulation_build import ENVIRONMENT, run_kernels
from cuda_planted import BUGS, changes, switch

KINDS = ("hard", "label", "dense", "general")
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
    assert f"forward {kind}" in done.stdout


@pytest.mark.parametrize("order", ["reverse", "1"])
def test_no_result_depends_on_the_order_of_threads_and_blocks(lines, order):
    done = run(run_kernels("address"), JML_CUDA_EMULATION_ORDER=order)
    assert done.stdout.splitlines() == lines
    assert done.returncode == 0


def reached() -> set[str]:
    """Every kernel, in every way that it has of reading and of sharing out classes."""
    staged = ("staged unpadded at_once", "staged padded at_once")
    in_turns = ("staged unpadded in_turns", "staged padded in_turns")
    one, several = "1 warp", "several warps"
    fast = []
    for kind, (small, large) in {
        "hard": ("8x8", "22x4"),
        "label": ("8x8", "22x4"),
        "dense": ("8x4", "22x2"),
    }.items():
        fast += [
            f"{kind} float softmax {small} {how} {one}" for how in ("rows", "strided", *staged)
        ]
        hows = itertools.product(("rows", "strided", *staged), (one, several))
        fast += [f"{kind} float softmax {large} {how} {warps}" for how, warps in hows]
        # With two times 32 pixels all are staged at once.
        if kind != "dense":
            fast += [f"{kind} float softmax {large} {how} {several}" for how in in_turns]
    tiles = {"float": "4x2", "double": "4x1"}
    general = [
        f"general {number} {activation} {tile} strided {warps}"
        for number, tile in tiles.items()
        for activation in ("softmax", "sigmoid", "none")
        for warps in (one, several, f"{several} chunks")
    ]
    ways = itertools.product(("forward", "backward"), (*fast, *general))
    return {" ".join(way) for way in ways}


def test_all_kernels_are_run_in_all_ways(lines):
    found = {line for line in lines if not line.startswith("made")}
    assert reached() - found == set()


# ---- planted bugs --------------------------------------------------------------------------------


@pytest.mark.parametrize(("sanitizer", "name"), PLANTED)
def test_planted_bugs_are_seen(sanitizer, name):
    bug = BUGS[sanitizer][name]
    program = run_kernels(sanitizer, changes(sanitizer))
    quick = "atexit_sleep_ms=0:halt_on_error=1:symbolize=0"
    done = run(program, bug.kernels, TSAN_OPTIONS=quick, **switch(sanitizer, name))
    assert done.returncode != 0
    assert (bug.said or "data race") in done.stderr


@pytest.mark.parametrize("kind", ["hard", "dense"])
def test_a_copy_without_them_is_clean(lines, kind):
    done = run(run_kernels("address", changes("address")), kind)
    assert done.stderr == ""
    assert set(done.stdout.splitlines()) <= set(lines)
