"""Who takes part: names, import paths, and that each gives a loss."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from jml_kernels.accuracy import made_by_an_operation
from jml_kernels.backend import choose
from jml_kernels.bench import competitors
from jml_kernels.bench.cases import METRICS, OBJECTIVES, BenchmarkCase, build
from jml_kernels.bench.competitor import NotAvailableError
from jml_kernels.bench.competitors import (
    COMPETITORS,
    IN_PLACE,
    INTERPOLATED,
    LOVASZ_PEERS,
    PEERS,
    find,
    fused,
    make,
    named,
)

SHAPE = (2, 4, 6, 8)
LOSSES = [name for name, (_, kind) in OBJECTIVES.items() if kind != METRICS]
ON_THE_CPU = dict.fromkeys([choose("auto", torch.device("cpu")), "reference"])
#: Who runs here, but for the compiler, which takes longer than all the rest, and for peers.
NAMES = [
    *(name + end for name in ON_THE_CPU for end in ("", IN_PLACE)),
    *("eager", "cross-entropy", "soft-dice"),
]


# ---- logits of lower resolution ------------------------------------------------------------------

UPSAMPLED = [name for name in NAMES if not name.endswith(IN_PLACE)]


@pytest.mark.parametrize("name", [*UPSAMPLED, *(name + INTERPOLATED for name in ON_THE_CPU)])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_take_logits_of_lower_resolution(name, objective, dtype):
    """As if PyTorch had interpolated them in float32."""
    case = BenchmarkCase(SHAPE, *OBJECTIVES[objective], dtype=dtype, upsample=3)
    logits, target, *teacher = build(case)
    try:
        found = make(name, case)(logits, target, *teacher)
    except NotAvailableError:
        return
    full = [F.interpolate(z.float(), size=SHAPE[2:], mode="bilinear") for z in (logits, *teacher)]
    target = target.float() if target.is_floating_point() else target
    right = find(name.removesuffix(INTERPOLATED)).make(replace(case, upsample=1))
    torch.testing.assert_close(found, right(full[0], target, *full[1:]), rtol=1e-5, atol=1e-6)


def test_a_loss_of_ones_own_gets_interpolated_logits(monkeypatch):
    given = []
    monkeypatch.setattr(competitors, "_imported", lambda path: lambda z, y: given.append(z.shape))
    case = BenchmarkCase(SHAPE, upsample=2)
    make("module:loss", case)(*build(case))
    assert given == [SHAPE]


def test_who_has_nothing_to_do_with_an_upsampled_case():
    for name in (f"reference{IN_PLACE}", "reference-interpolated", "reference-full-size"):
        upsample = 2 if name.endswith(IN_PLACE) else 1
        with pytest.raises(NotAvailableError):
            make(name, BenchmarkCase(SHAPE, upsample=upsample))


# ---- names ---------------------------------------------------------------------------------------


def test_each_name_once_and_in_order():
    assert named(["eager", "cpu", "eager"]) == ["eager", "cpu"]
    first = next(iter(PEERS))
    others = [*PEERS, *LOVASZ_PEERS][1:]
    assert named([first, "eager", "peers"]) == [first, "eager", *others]


def test_every_name_is_found():
    for name, competitor in COMPETITORS.items():
        assert find(name) is competitor
        assert competitor.what


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match=r"^'eagre': expected one of .*eager.*or module:function"):
        named(["cpu", "eagre"])


# ---- losses of the user's own --------------------------------------------------------------------

MODULE = """
import torch

def loss(logits, target):
    return logits.sum() * 2

class Loss(torch.nn.Module):
    def forward(self, logits, target):
        return logits.sum() * 3

class Losses:
    inner = staticmethod(loss)
    made = Loss()

class Needs:
    def __init__(self, weight):
        pass

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that can be imported."""

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write("my_losses", MODULE)
    yield write
    for name in ("my_losses", "my_failure"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("path", "factor"),
    [("loss", 2), ("Loss", 3), ("Losses.inner", 2), ("Losses.made", 3)],
)
def test_import_path(path, factor, module):
    competitor = find(f"my_losses:{path}")
    assert not competitor.same
    logits, target = build(BenchmarkCase(SHAPE))
    assert competitor.make(BenchmarkCase(SHAPE))(logits, target) == logits.sum() * factor
    assert named([f"my_losses:{path}"]) == [f"my_losses:{path}"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no_such_module:loss", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("my_losses:lost", "AttributeError: .*lost"),
        ("my_losses:Losses.lost", "AttributeError: .*lost"),
        ("my_losses:", "AttributeError"),
        (":loss", "ValueError: Empty module name"),
        ("my_losses:Needs", "TypeError: .*weight"),
    ],
)
def test_import_path_that_leads_nowhere(path, why, module):
    with pytest.raises(ValueError, match=rf"^'{path}': expected module:function.*fails: {why}"):
        find(path)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def loss(:", "SyntaxError: "),
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("raise SystemExit('usage')", "SystemExit: usage"),
    ],
)
def test_module_that_fails(code, why, module):
    """One that exits, as a script without a guard does, ends no command without a word."""
    module("my_failure", code)
    with pytest.raises(ValueError, match=rf"^'my_failure:loss': .*{why}"):
        find("my_failure:loss")


def test_what_cannot_be_called(module):
    with pytest.raises(ValueError, match=r"^'my_losses:number' is a int: expected a function"):
        find("my_losses:number")


# ---- what they compute ---------------------------------------------------------------------------


@pytest.mark.parametrize("objective", LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_loss(name, dtype, objective):
    case = BenchmarkCase(SHAPE, *OBJECTIVES[objective], dtype=dtype, layout="channels_last")
    if (name, objective) == ("soft-dice", "soft"):
        pytest.skip("it takes labels only")
    if name.endswith(IN_PLACE) and objective == "lovasz":
        pytest.skip("it has no inplace_backward")
    logits, *targets = build(case)
    found = find(name).make(case)(made_by_an_operation(logits.clone()), *targets)
    assert found.dim() == 0
    assert found.requires_grad
    assert found.isfinite()
    if find(name).same:
        tensors = [t.double() if t.is_floating_point() else t for t in (logits, *targets)]
        expected = fused(case, "reference")(*tensors)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_the_same_are_our_backends_and_the_naive_loss():
    same = {name for name, competitor in COMPETITORS.items() if competitor.same}
    ours = {name + end for name in competitors.BACKENDS for end in ("", IN_PLACE, INTERPOLATED)}
    assert same == ours | {"eager", "compile"}


@pytest.mark.parametrize("name", ["cross-entropy", "soft-dice"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_half_types_are_in_float32(name, dtype):
    """In float16 the sum of a million terms is infinite."""
    case = BenchmarkCase((1, 2, 512, 512), dtype=dtype)
    logits, labels = build(case)
    loss = find(name).make(case)
    assert loss(logits, labels) == loss(logits.float(), labels)


def test_boundary_smoothing_is_passed_on():
    """A window of another size is another loss."""
    for name in ("reference", "eager"):
        losses = []
        for size in (3, 5):
            case = BenchmarkCase((1, 4, 96, 96), "boundary", boundary_size=size)
            losses.append(find(name).make(case)(*build(case)))
        assert losses[0] != losses[1]


def test_dice_takes_labels_only():
    with pytest.raises(NotAvailableError, match="labels only"):
        find("soft-dice").make(BenchmarkCase(SHAPE, "soft"))


def test_naive_distillation_has_no_boundary_smoothing():
    case = BenchmarkCase(SHAPE, "boundary", OBJECTIVES["kd"][1])
    with pytest.raises(NotAvailableError, match="no boundary smoothing"):
        find("eager").make(case)


def test_dice_by_hand():
    """Of four pixels two are of a class, all with probability one half; smoothed by 1."""
    labels = torch.tensor([[[0, 1], [1, 0]]])
    loss = find("soft-dice").make(BenchmarkCase((1, 2, 2, 2)))(torch.zeros(1, 2, 2, 2), labels)
    torch.testing.assert_close(loss, torch.tensor(1 - (2 * 1.0 + 1) / (2 + 2 + 1)))


def test_backend_that_cannot_run_says_why(monkeypatch):
    monkeypatch.setattr(competitors.jml, "backends", lambda: {"cuda": "there is no GPU"})
    with pytest.raises(NotAvailableError, match=r"^backend cuda: there is no GPU$"):
        find("cuda-in-place").make(BenchmarkCase(SHAPE))


def test_compiled_is_the_naive_loss_as_one_graph(monkeypatch):
    """Compiled for each case anew: a graph for any shape would be another program."""
    done = []

    def compiler(loss, **options):
        done.append(options)
        return loss

    monkeypatch.setattr(torch.compiler, "reset", lambda: done.append("reset"))
    monkeypatch.setattr(torch, "compile", compiler)
    case = BenchmarkCase(SHAPE)
    found = find("compile").make(case)(*build(case))
    assert found == find("eager").make(case)(*build(case))
    assert done == ["reset", {"fullgraph": True, "dynamic": False}]
