"""One case: what is wrong is noted, what fails stops no other, and inputs stay what they are."""

from __future__ import annotations

import json

import pytest
import torch

from jml_kernels.backend import choose
from jml_kernels.bench import measure as measuring
from jml_kernels.bench.cases import METRICS, OBJECTIVES, BenchmarkCase
from jml_kernels.bench.competitor import Competitor, NotAvailableError
from jml_kernels.bench.competitors import COMPETITORS, eager, fused
from jml_kernels.bench.measure import DeviceLostError, measure

CASE = BenchmarkCase((2, 3, 8, 6))
LOSSES = [name for name, (_, kind) in OBJECTIVES.items() if kind != METRICS]
OURS = choose("auto", torch.device("cpu"))


@pytest.fixture
def add(monkeypatch):
    """Adds a competitor, which calls a function with (loss of ours, logits, labels)."""

    def one(name: str, loss, same: bool = True) -> str:
        def make(case: BenchmarkCase):
            ours = fused(case, "reference")
            return lambda logits, labels: loss(ours, logits, labels)

        monkeypatch.setitem(COMPETITORS, name, Competitor("made up", make, same))
        return name

    return one


def of(names: list[str], case: BenchmarkCase = CASE, **options) -> dict:
    found = measure(case, names, "cpu", 2, **options)
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize("objective", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_row(objective, dtype):
    case = BenchmarkCase(CASE.shape, *OBJECTIVES[objective], dtype=dtype, layout="channels_last")
    names = [OURS, "eager", "cross-entropy"]
    said = []
    found = of(names, case, say=said.append)
    assert found["subject"] == OURS
    assert list(found["figures"]) == names
    assert found["wrong"] == found["left out"] == {}
    assert {len(turns) for turns in found["turns"][OURS].values()} == {2}
    assert found["turns"]["copy"].keys() == {"forward"}
    errors = found["errors"]
    assert errors[OURS]["gradient"] < (1e-5 if dtype == "float32" else 1e-2)
    # That of another loss is how far it is from ours.
    assert errors["cross-entropy"]["loss"] > 0.01
    # The gradient, at least.
    assert all(row["peak / logits"] >= 1 for row in found["figures"].values())
    # Whoever has a turn has said so, for processes that die.
    assert said[:5] == ["inputs", "check", *names]
    assert sorted(said[5:]) == sorted([*names, "copy"] * 3)


@pytest.mark.parametrize("objective", LOSSES)
@pytest.mark.parametrize("shape", [(2, 3, 33, 26), (1, 3, 23), (1, 3, 9, 10, 11)], ids=len)
def test_logits_of_lower_resolution(objective, shape):
    case = BenchmarkCase(shape, *OBJECTIVES[objective], upsample=4)
    names = [OURS, f"{OURS}-interpolated", f"{OURS}-full-size", "cross-entropy"]
    found = of(names, case)
    assert list(found["figures"]) == names
    assert found["wrong"] == found["left out"] == {}
    # Of logits that have the full size the gradient has another shape.
    assert found["errors"].keys() == {OURS, f"{OURS}-interpolated", "cross-entropy"}
    assert found["errors"][OURS]["gradient"] < 1e-5
    assert found["bytes"]["logits"] == case.bytes
    # That it has logits of full size counts, and their gradient.
    assert found["figures"][f"{OURS}-full-size"]["peak bytes"] >= 2 * case.full_bytes


def test_a_wrong_gradient_of_lower_resolution_is_told(add):
    wrong = add("wrong", lambda ours, z, y: ours(1.1 * z, y))
    found = of([OURS, wrong], BenchmarkCase((2, 3, 16, 12), upsample=4))
    assert found["wrong"].keys() == {wrong}


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (1, 3, 4, 5, 3)], ids=len)
def test_any_number_of_dimensions(shape):
    found = of([OURS, "eager"], BenchmarkCase(shape))
    assert list(found["figures"]) == [OURS, "eager"]
    assert found["wrong"] == {}


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda ours, x, y: ours(x, y) + 0.1, "error of the loss is 1.00e-01"),
        (lambda ours, x, y: ours(x, y) * float("nan"), "error of the loss is nan"),
        (
            lambda ours, x, y: ours(x, y) + 0.1 * (x - x.detach()).square().sum().sqrt(),
            "error of the gradient is nan",
        ),
        (
            lambda ours, x, y: ours(x, y) + 0.1 * (x - x.detach()).sum(),
            "error of the gradient is ",
        ),
    ],
    ids=["loss", "NaN", "NaN in gradient", "gradient"],
)
def test_wrong(loss, why, add):
    """The same loss, it says."""
    found = of([OURS, add("liar", loss), "eager"])
    assert found["wrong"].keys() == {"liar"}
    assert found["wrong"]["liar"].startswith(f"liar: {why}")
    assert list(found["figures"]) == [OURS, "liar", "eager"]


def test_another_loss_is_not_wrong(add):
    name = add("other", lambda ours, x, y: ours(x, y) + 0.25, same=False)
    found = of([OURS, name])
    assert found["wrong"] == {}
    assert found["errors"]["other"]["loss"] == pytest.approx(0.25, abs=1e-5)


def test_our_backends_are_held_to_more_than_the_naive_loss(add):
    """An error of 1e-5."""
    for name, is_wrong in (("reference", True), ("eager", False)):
        add(name, lambda ours, x, y: ours(x, y) + 1e-5)
        assert (name in of([name])["wrong"]) == is_wrong


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_oracle_that_does_not_fit(error, monkeypatch):
    """Nothing is called right that was not checked."""

    def out_of_memory(*arguments):
        raise error

    monkeypatch.setattr(measuring, "fused", out_of_memory)
    found = of([OURS, "cross-entropy"])
    assert found["wrong"] == {OURS: f"not checked: {measuring.first_line(error)}"}
    assert found["errors"] == {}
    assert list(found["figures"]) == [OURS, "cross-entropy"]


def test_an_oracle_that_fails_is_no_matter_of_memory(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(measuring, "fused", fail)
    with pytest.raises(RuntimeError, match="something else"):
        of([OURS])


# ---- what fails ----------------------------------------------------------------------------------


class FailsBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("no way back")


def fails(*arguments):
    raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (fails, "RuntimeError: first line"),
        (lambda ours, x, y: FailsBackwards.apply(ours(x, y)), "ValueError: no way back"),
        (lambda ours, x, y: x.mean(dim=1), "RuntimeError: "),
        (lambda ours, x, y: 0.5, "AttributeError: "),
        (lambda ours, x, y: x.add_(1).sum(), "RuntimeError: "),
    ],
    ids=["forward", "backward", "not 0-dim", "no tensor", "changes its inputs"],
)
def test_what_fails_stops_no_other(loss, why, add):
    found = of([add("broken", loss), OURS, "cross-entropy"])
    assert found["left out"].keys() == {"broken"}
    assert found["left out"]["broken"].startswith(why)
    assert "\n" not in found["left out"]["broken"]
    assert list(found["figures"]) == [OURS, "cross-entropy"]
    assert found["subject"] == OURS
    assert found["wrong"] == {}


def test_what_is_not_available(monkeypatch):
    def make(case):
        raise NotAvailableError("it is not here")

    monkeypatch.setitem(COMPETITORS, "absent", Competitor("made up", make))
    assert of(["absent"])["left out"] == {"absent": "it is not here"}
    assert of(["absent"])["figures"] == {}


def test_who_is_left_out_is_not_run(add):
    found = of(
        [OURS, add("killer", lambda *_: pytest.fail("it ran"))], without={"killer": "it kills"}
    )
    assert found["left out"] == {"killer": "it kills"}


def test_a_lost_gpu_is_no_matter_of_one_competitor(monkeypatch):
    def fail():
        raise RuntimeError("an illegal memory access\nwas encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    left_out = {}
    with (
        pytest.raises(DeviceLostError, match=r"^RuntimeError: an illegal memory access$"),
        measuring._caught("name", "cuda", left_out),
    ):
        pass
    assert left_out == {}
    measuring.synchronize("cpu")  # which is not asked


# ---- who shares ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("objective", ["jml", "soft", "kd"])
def test_in_place_spoils_no_inputs(objective, dtype, add, monkeypatch):
    """It writes over its logits, in every turn; the last one sees what the first has seen."""
    case = BenchmarkCase(CASE.shape, *OBJECTIVES[objective], dtype=dtype)
    seen = []

    def make(case):
        def loss(*tensors):
            seen.append([t.detach().clone() for t in tensors])
            return eager(case)(*tensors)

        return loss

    monkeypatch.setitem(COMPETITORS, "watch", Competitor("made up", make))
    in_place = dict.fromkeys([f"{OURS}-in-place", "reference-in-place"])
    names = ["watch", *in_place, "eager"]
    found = of(names, case)
    assert found["wrong"] == found["left out"] == {}
    assert list(found["figures"]) == names
    for tensors in seen:
        assert all(map(torch.equal, tensors, seen[0]))


def test_in_place_sees_its_logits_again_in_every_turn(monkeypatch):
    seen = []

    def make(case):
        loss = fused(case, OURS, inplace_backward=True)

        def watched(logits, labels):
            seen.append((logits.data_ptr(), logits.detach().clone()))
            return loss(logits, labels)

        return watched

    competitor = Competitor("made up", make, same=True)
    monkeypatch.setitem(COMPETITORS, f"{OURS}-in-place", competitor)
    assert of([f"{OURS}-in-place"])["wrong"] == {}
    assert len(seen) >= 5
    assert len({pointer for pointer, _ in seen}) == 1
    assert all(torch.equal(logits, seen[0][1]) for _, logits in seen)


def test_without_gradient_there_is_no_backward(add):
    metric = add("metric", lambda ours, x, y: (x.argmax(dim=1) != y).float().mean(), same=False)
    found = of([OURS, metric])
    assert found["left out"] == {}
    assert found["turns"]["metric"].keys() == {"forward"}
    assert "metric" not in found["errors"]
    assert found["figures"]["metric"]["forward"]["times"]["median"] > 0
