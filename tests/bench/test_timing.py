"""Turns, their order and their ratios: by clocks that are made up."""

from __future__ import annotations

import types
import weakref
from collections import Counter

import pytest
import torch

from jml_kernels.bench import timing
from jml_kernels.bench.timing import OfGpu, Spread, Step, interleave, of_cpu, ratio, spread

NAMES = ("a", "b", "c", "d")

# ---- rounds --------------------------------------------------------------------------------------


def run(rounds: int, uncounted: int = 1) -> tuple[list[str], dict]:
    """Who had a turn, and what was noted: the number of the turn."""
    order: list[str] = []

    def clock(step: Step) -> timing.Turn:
        order.append(step.forward())
        return {"forward": float(len(order)), "step": -float(len(order))}

    steps = {name: Step(lambda name=name: name) for name in NAMES}
    return order, interleave(steps, rounds, clock, uncounted)


def test_each_has_one_turn_in_a_round():
    order, seconds = run(rounds=8, uncounted=2)
    rounds = [order[i : i + len(NAMES)] for i in range(0, len(order), len(NAMES))]
    assert len(rounds) == 10
    assert all(sorted(turn) == list(NAMES) for turn in rounds)
    assert len(set(map(tuple, rounds))) > 3  # drawn anew
    for name, parts in seconds.items():
        expected = [4 * i + turn.index(name) + 1 for i, turn in enumerate(rounds)][2:]
        assert parts == {"forward": expected, "step": [-number for number in expected]}


def test_names_stay_in_their_order():
    assert list(run(rounds=2)[1]) == list(NAMES)


def test_the_order_is_the_same_for_every_run():
    assert run(rounds=5)[0] == run(rounds=5)[0]


def test_says_whose_turn_it_is():
    said = []
    interleave({"a": Step(int)}, 2, lambda step: {"forward": 1.0}, say=said.append)
    assert said == ["a"] * 3


# ---- numbers -------------------------------------------------------------------------------------


def test_spread():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(median=3, low=2, high=4)
    assert spread([1.0, 2.0]) == Spread(median=1.5, low=1.25, high=1.75)


def test_ratio_is_of_the_rounds():
    """Whatever slows a round down slows both."""
    assert ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == Spread(2, 2, 2)
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])


def test_step():
    assert Step(lambda: 2, lambda value: value + 1).run() == 3
    assert Step(lambda: 2).run() == 2


# ---- the clock on the wall -----------------------------------------------------------------------


class Result:
    """Something that may be dropped."""


@pytest.fixture
def wall(monkeypatch):
    """What happened, and a clock that everything takes a second of."""
    happened: list[str] = []
    alive: list[weakref.ref] = []

    def now() -> float:
        happened.append(f"clock, {sum(ref() is not None for ref in alive)} alive")
        return float(len(happened))

    def do(what: str) -> Result:
        happened.append(what)
        result = Result()
        alive.append(weakref.ref(result))
        return result

    monkeypatch.setattr(timing.time, "perf_counter", now)
    return types.SimpleNamespace(happened=happened, alive=alive, do=do)


def test_of_cpu(wall):
    step = Step(
        lambda: wall.do("forward"),
        lambda value: wall.do("backward"),
        lambda: wall.happened.append("prepare"),
    )
    assert of_cpu(step) == {"forward": 2, "backward": 2, "step": 4}
    # Results are dropped after the clock is read: that takes time.
    assert wall.happened == [
        "prepare",
        "clock, 0 alive",
        "forward",
        "clock, 1 alive",
        "backward",
        "clock, 2 alive",
    ]
    assert not any(ref() for ref in wall.alive)


def test_of_cpu_without_backward(wall):
    assert of_cpu(Step(lambda: wall.do("forward"))) == {"forward": 2}
    assert not any(ref() for ref in wall.alive)


# ---- the GPU's clock -----------------------------------------------------------------------------


class Gpu:
    """One of which all that is done takes as long as it is told, in ms; results come late."""

    def __init__(self, durations: dict[str, list[float]]):
        self.durations, self.now, self.done, self.finished = durations, 0.0, Counter(), False

    def do(self, what: str) -> str:
        known = self.durations.get(what, [1000.0])
        self.now += known[self.done[what] % len(known)]
        self.done[what] += 1
        self.finished = False
        return what

    def event(self, enable_timing: bool):
        assert enable_timing
        return _Event(self)

    def empty(self, size: int, dtype: torch.dtype, device: str):
        assert size * dtype.itemsize == OfGpu.CACHE
        assert device == "cuda"
        return types.SimpleNamespace(zero_=lambda: self.do("flush"))

    def synchronize(self) -> None:
        self.finished = True

    def step(self, with_backward: bool = True) -> Step:
        backward = (lambda value: self.do("backward")) if with_backward else None
        return Step(lambda: self.do("forward"), backward, lambda: self.do("prepare"))


class _Event:
    def __init__(self, gpu: Gpu):
        self.gpu, self.at = gpu, None

    def record(self) -> None:
        self.at = self.gpu.now

    def elapsed_time(self, other: _Event) -> float:
        assert self.gpu.finished
        return other.at - self.at


@pytest.fixture
def measure(monkeypatch):
    """A turn on a GPU that is made up, where preparing and emptying the cache take a second."""

    def on(gpu: Gpu, **options) -> timing.Turn:
        monkeypatch.setattr(torch.cuda, "Event", gpu.event)
        monkeypatch.setattr(torch.cuda, "synchronize", gpu.synchronize)
        monkeypatch.setattr(torch, "empty", gpu.empty)
        return OfGpu()(gpu.step(**options))

    return on


@pytest.mark.parametrize(
    ("forward", "backward", "runs"),
    [
        (0.5, 0.2, 42),  # 30 ms of 0.7
        (0.0, 0.0, OfGpu.MOST),
        (0.001, 0.001, OfGpu.MOST),
        (100.0, 200.0, OfGpu.LEAST),
    ],
)
def test_runs_of_a_turn(forward, backward, runs, measure):
    gpu = Gpu({"forward": [forward], "backward": [backward]})
    found = measure(gpu)
    expected = {"forward": forward, "backward": backward, "step": forward + backward}
    assert found == pytest.approx({part: ms / 1e3 for part, ms in expected.items()})
    # One more decides how many.
    assert gpu.done == dict.fromkeys(("prepare", "flush", "forward", "backward"), runs + 1)


def test_the_median_of_a_turn_without_the_first_run(measure):
    gpu = Gpu({"forward": [50.0, 1.0, 1.0, 9.0], "backward": [50.0, 4.0, 2.0, 2.0]})
    # Parts alone: the step of a run is 5, 3 or 11.
    assert measure(gpu) == pytest.approx({"forward": 1e-3, "backward": 2e-3, "step": 5e-3})
    assert gpu.done["forward"] == 1 + OfGpu.LEAST


def test_without_backward(measure):
    gpu = Gpu({"forward": [1.0]})
    assert measure(gpu, with_backward=False) == pytest.approx({"forward": 1e-3})
    assert gpu.done["forward"] == 1 + 30
    assert gpu.done["backward"] == 0
