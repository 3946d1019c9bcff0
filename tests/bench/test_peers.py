"""Losses of other libraries: that each is what it is said to be, where it is installed, and that
nothing needs one.

What is said is that a loss equals one of ours in some configuration; `OURS` has those.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys
import types
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import jml_kernels as jml
from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, BenchmarkCase
from jml_kernels.bench.competitor import Loss, NotAvailableError
from jml_kernels.bench.peers import PEERS, versions

TOLERANCE = 1e-4
SHAPE = (3, 4, 12, 10)

#: What pip calls it, what Python calls it, and what is used of it.
LIBRARIES = {
    "smp": (
        "segmentation-models-pytorch",
        "segmentation_models_pytorch",
        {"losses": ("JaccardLoss", "DiceLoss")},
    ),
    "monai": ("monai", "monai", {"losses": ("DiceLoss", "DiceCELoss")}),
    "nnunet": (
        "nnunetv2",
        "nnunetv2",
        {
            "training.loss.dice": ("MemoryEfficientSoftDiceLoss",),
            "training.loss.compound_losses": ("DC_and_CE_loss",),
            "utilities.helpers": ("softmax_helper_dim1",),
        },
    ),
    "kornia": ("kornia", "kornia", {"losses": ("dice_loss", "tversky_loss")}),
    "torchmetrics": (
        "torchmetrics",
        "torchmetrics",
        {"functional.classification": ("multiclass_jaccard_index",)},
    ),
}

SMP = ("smp-jaccard", "smp-dice")
KORNIA = ("kornia-dice", "kornia-tversky")
METRIC = "torchmetrics-jaccard"
TAKE_SOFT = (*SMP, "monai-jaccard-soft")
TAKE_CROSS_ENTROPY = ("monai-jaccard", "monai-dice", "nnunet-dice")
TAKE_ANY_DIMENSIONS = tuple(name for name in PEERS if name not in KORNIA)  # nnU-Net: but 0

LABELS, SOFT = BenchmarkCase(SHAPE), BenchmarkCase(SHAPE, "soft")
CROSS_ENTROPY = BenchmarkCase(SHAPE, objective=CE_JACCARD)


def library_of(name: str) -> tuple[str, str, dict]:
    return LIBRARIES[name.partition("-")[0]]


def make(name: str, case: BenchmarkCase) -> Loss:
    """The loss for a case that it must be able to take; skips where its library is missing."""
    try:
        PEERS[name].make(LABELS)
    except NotAvailableError as error:
        pytest.skip(str(error))
    return PEERS[name].make(case)


def tensors(case: BenchmarkCase, absent: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Logits and target, drawn pixel by pixel. Labels are of each class but those absent; the first
    image has none of the last class, so that means over images and over the batch differ."""
    n, c, *spatial = case.shape
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(case.shape, generator=generator).mul_(2)
    logits = logits.to(getattr(torch, case.dtype))
    if case.target == "soft":
        target = torch.randn(case.shape, generator=generator).mul_(2).softmax(dim=1)
        target = target.to(logits.dtype)
    else:
        present = torch.tensor([k for k in range(c) if k not in absent])
        target = present[torch.randint(len(present), (n, *spatial), generator=generator)]
        if n > 1:
            target[0] = target[0].clamp(max=int(present[-2]))
    if case.layout == "channels_last":
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    return logits.requires_grad_(), target


# ---- what each equals ----------------------------------------------------------------------------


def ours(module: type, offset: float = 0.0, **options) -> Loss:
    loss = module(backend="reference", **options)
    return lambda logits, target: loss(logits, target) + offset


def over_all_classes(module: type) -> Loss:
    """Mean over all classes, those without labels with loss 0: `reduction="none"` has that."""
    loss = module(backend="reference", reduction="none")
    return lambda logits, target: loss(logits, target).mean()


def of_argmax(logits: Tensor, labels: Tensor) -> Tensor:
    one_hot = F.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(-1, 1).double()
    options = {"activation": "none", "active_classes": "both", "backend": "reference"}
    return jml.JaccardMetricLoss(**options)(one_hot, labels)


ALL = {"active_classes": "all"}
OURS: dict[str, Loss] = {
    "smp-jaccard": over_all_classes(jml.JaccardMetricLoss),
    "smp-dice": over_all_classes(jml.DiceSemimetricLoss),
    "monai-jaccard": ours(jml.SoftJaccardLoss, **ALL),
    "monai-jaccard-soft": ours(jml.JaccardMetricLoss, **ALL),
    "monai-dice": ours(jml.SoftDiceLoss, **ALL),
    "nnunet-dice": ours(jml.SoftDiceLoss, -1.0, **ALL),
    "kornia-dice": ours(jml.SoftDiceLoss, aggregation="image"),
    "kornia-tversky": ours(jml.SoftJaccardLoss, aggregation="image"),
    METRIC: of_argmax,
}
_DICE = {"norm": 1, "alpha": 0.5, "beta": 0.5}
OURS_WITH_CROSS_ENTROPY: dict[str, Loss] = {
    "monai-jaccard": ours(jml.JaccardCrossEntropyLoss, **ALL),
    "monai-dice": ours(jml.JaccardCrossEntropyLoss, **_DICE, **ALL),
    "nnunet-dice": ours(jml.JaccardCrossEntropyLoss, -0.75, **_DICE, **ALL),
}


def check_equal(loss: Loss, expected: Loss, logits: Tensor, target: Tensor) -> None:
    """Values, and gradients where there are any, against float64."""
    value = loss(logits, target)
    assert value.dim() == 0
    exact = logits.detach().double().requires_grad_()
    target = target.double() if target.is_floating_point() else target
    reference = expected(exact, target)
    assert value.item() == pytest.approx(reference.item(), abs=TOLERANCE)
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, logits)
        (gradient,) = torch.autograd.grad(reference, exact)
        assert found.dtype == logits.dtype
        limit = TOLERANCE if logits.element_size() > 2 else 1e-2
        assert (found.double() - gradient).norm() <= limit * gradient.norm()


def test_each_has_its_equivalent():
    assert set(OURS) == set(PEERS)
    assert set(OURS_WITH_CROSS_ENTROPY) == set(TAKE_CROSS_ENTROPY)


@pytest.mark.parametrize("absent", [(), (1,)], ids=["every class", "a class without labels"])
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_ours_on_labels(name: str, absent: tuple[int, ...], dtype: str):
    case = BenchmarkCase(SHAPE, dtype=dtype)
    check_equal(make(name, case), OURS[name], *tensors(case, absent))


@pytest.mark.parametrize("name", TAKE_SOFT)
def test_equals_ours_on_soft_targets(name: str):
    check_equal(make(name, SOFT), OURS[name], *tensors(SOFT))


@pytest.mark.parametrize("name", TAKE_SOFT)
def test_equals_ours_on_a_million_pixels(name: str):
    """In float64: on a CPU their float32 sums of so many pixels are off by more than the tolerance,
    which is no difference of what they compute."""
    case = BenchmarkCase((1, 2, 1024, 1024), dtype="float64")
    check_equal(make(name, case), OURS[name], *tensors(case))


@pytest.mark.parametrize("name", TAKE_CROSS_ENTROPY)
def test_equals_ours_with_cross_entropy(name: str):
    expected = OURS_WITH_CROSS_ENTROPY[name]
    check_equal(make(name, CROSS_ENTROPY), expected, *tensors(CROSS_ENTROPY, (1,)))


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("smp-jaccard", LABELS),
        ("smp-jaccard", SOFT),
        ("monai-jaccard", LABELS),
        ("monai-jaccard-soft", LABELS),
        ("monai-jaccard-soft", SOFT),
    ],
)
def test_equals_our_default_where_every_class_is_present(name: str, case: BenchmarkCase):
    check_equal(make(name, case), ours(jml.JaccardMetricLoss), *tensors(case))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", PEERS)
def test_half_types(name: str, dtype: str):
    case = BenchmarkCase(SHAPE, dtype=dtype)
    check_equal(make(name, case), OURS[name], *tensors(case))


@pytest.mark.parametrize("name", TAKE_SOFT)
def test_half_types_of_soft_targets(name: str):
    case = dataclasses.replace(SOFT, dtype="bfloat16")
    check_equal(make(name, case), OURS[name], *tensors(case))


@pytest.mark.parametrize("name", PEERS)
def test_channels_last(name: str):
    case = BenchmarkCase(SHAPE, layout="channels_last")
    check_equal(make(name, case), OURS[name], *tensors(case))


@pytest.mark.parametrize("shape", [(5, 4, 30), (3, 4, 6, 5, 7)], ids=["1", "3"])
@pytest.mark.parametrize("name", TAKE_ANY_DIMENSIONS)
def test_one_or_three_spatial_dimensions(name: str, shape: tuple[int, ...]):
    case = BenchmarkCase(shape)
    check_equal(make(name, case), OURS[name], *tensors(case))


@pytest.mark.parametrize("name", [name for name in TAKE_ANY_DIMENSIONS if name != "nnunet-dice"])
def test_no_spatial_dimensions(name: str):
    case = BenchmarkCase((40, 4))
    check_equal(make(name, case), OURS[name], *tensors(case))


def test_the_metric_is_forward_only():
    value = make(METRIC, LABELS)(*tensors(LABELS))
    assert not value.requires_grad
    assert 0 <= value.item() <= 1


# ---- what each cannot take -----------------------------------------------------------------------


def refused() -> list[tuple[str, BenchmarkCase, str]]:
    boundary, distillation = (
        BenchmarkCase(SHAPE, "boundary"),
        BenchmarkCase(SHAPE, objective=DISTILLATION),
    )
    found = []
    for name in PEERS:
        found += [(name, boundary, "boundary"), (name, distillation, "distillation")]
        found.append((name, BenchmarkCase((2, 1, 4, 4)), "one class"))
        if name not in TAKE_SOFT:
            found.append((name, SOFT, "labels"))
        if name not in TAKE_CROSS_ENTROPY:
            found.append((name, CROSS_ENTROPY, "cross-entropy"))
        if name in KORNIA:
            found += [
                (name, BenchmarkCase((2, 3, *(4,) * d)), f"dimensions, not {d}") for d in (0, 1, 3)
            ]
    return [*found, ("nnunet-dice", BenchmarkCase((2, 3)), "dimensions, not 0")]


@pytest.mark.parametrize(("name", "case", "why"), refused())
def test_says_what_it_cannot_take(name: str, case: BenchmarkCase, why: str):
    """Installed or not: nothing has to be imported for that."""
    with pytest.raises(NotAvailableError, match=why):
        PEERS[name].make(case)


# ---- without the libraries -----------------------------------------------------------------------


def remove(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Forget a library, as if it had not been imported."""
    for name in [m for m in sys.modules if m == module or m.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)


def set_release(monkeypatch: pytest.MonkeyPatch, release: str | None) -> None:
    """Of every package; None: not installed."""

    def version(package: str) -> str:
        if release is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return release

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_nothing_is_imported_before_it_is_asked_for():
    modules = [module for _, module, _ in LIBRARIES.values()]
    code = f"""
import sys
from jml_kernels.bench import peers
assert not set({modules}) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", PEERS)
def test_missing(name: str, monkeypatch: pytest.MonkeyPatch):
    package, module, _ = library_of(name)
    set_release(monkeypatch, None)
    remove(monkeypatch, module)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotAvailableError, match=rf"^{package} is not installed.*pip install"):
        PEERS[name].make(LABELS)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('one reason\\nand a traceback')", "RuntimeError: one reason$"),
        ("raise OSError", "OSError: $"),
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'$"),
        ("", "losses"),
    ],
    ids=["fails", "fails without a word", "lacks a dependency", "lacks the module"],
)
def test_broken(code: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    set_release(monkeypatch, None)
    remove(monkeypatch, "monai")
    (tmp_path / "monai.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(NotAvailableError, match=f"monai is installed, but not usable: .*{why}"):
            PEERS["monai-dice"].make(LABELS)
    finally:
        sys.modules.pop("monai", None)


@pytest.mark.parametrize("name", PEERS)
def test_too_old(name: str, monkeypatch: pytest.MonkeyPatch):
    package, *_ = library_of(name)
    set_release(monkeypatch, "0.4.1.dev2")
    with pytest.raises(NotAvailableError, match=rf"^{package} 0.4.1.dev2 is installed"):
        PEERS[name].make(LABELS)


# ---- how they are called -------------------------------------------------------------------------


class Fake:
    """A library's loss, class or function: what is called with a tensor is the loss."""

    def __init__(self):
        self.options: dict = {}
        self.tensors: tuple[Tensor, ...] = ()

    def __call__(self, *arguments, **options):
        self.options |= options
        if not isinstance(next(iter(arguments), None), Tensor):
            return self
        self.tensors = arguments
        return arguments[0].sum()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Fake]:
    """Puts one in the place of the library of a peer."""

    def put(name: str) -> Fake:
        loss = Fake()
        set_release(monkeypatch, None)
        _, library, used = library_of(name)
        remove(monkeypatch, library)
        for path, attributes in used.items():
            parts = [library, *path.split(".")]
            for k in range(1, len(parts) + 1):
                package = ".".join(parts[:k])
                if package not in sys.modules:
                    monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
            for attribute in attributes:
                setattr(sys.modules[".".join(parts)], attribute, loss)
        return loss

    return put


@pytest.mark.parametrize("name", PEERS)
def test_labels_arrive_as_the_library_wants_them(name: str, fake):
    library, (logits, labels) = fake(name), tensors(LABELS)
    assert PEERS[name].make(LABELS)(logits, labels).dim() == 0
    found_logits, found = library.tensors
    assert found_logits is logits
    assert found.dtype == torch.int64
    has_channel = name.startswith(("monai", "nnunet"))
    assert torch.equal(found, labels.unsqueeze(1) if has_channel else labels)


@pytest.mark.parametrize("name", TAKE_SOFT)
def test_soft_targets_arrive_as_they_are(name: str, fake):
    library, (logits, target) = fake(name), tensors(SOFT)
    PEERS[name].make(SOFT)(logits, target)
    predicted, found = library.tensors
    assert found is target
    # Of two ways to a softmax, the library's own where it has one.
    if name in SMP:
        assert library.options["from_logits"] is False
        assert torch.equal(predicted, logits.softmax(dim=1))
    else:
        assert library.options["to_onehot_y"] is False
        assert predicted is logits


@pytest.mark.parametrize("name", TAKE_CROSS_ENTROPY)
def test_cross_entropy_is_weighted_as_ours(name: str, fake):
    library = fake(name)
    PEERS[name].make(CROSS_ENTROPY)(*tensors(CROSS_ENTROPY))
    weights = {key: value for key, value in library.options.items() if "_ce" in key}
    assert list(weights.values()) == [jml.JaccardCrossEntropyLoss().objective.of_labels.ce_weight]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", PEERS)
def test_half_types_arrive_in_float32(name: str, dtype: str, fake):
    case = dataclasses.replace(LABELS, dtype=dtype)
    library, (logits, labels) = fake(name), tensors(case)
    PEERS[name].make(case)(logits, labels)
    is_wide = dtype == "float64" or name == METRIC
    assert library.tensors[0].dtype == (logits.dtype if is_wide else torch.float32)


def test_names_are_those_of_a_command_line():
    for name, peer in PEERS.items():
        assert name == name.lower()
        assert not set(name) & set(" ,_")
        assert not peer.same
        assert peer.what


def test_versions_of_what_is_installed(monkeypatch):
    def version(package: str) -> str:
        if package == "kornia":
            return "0.9.0"
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert versions() == {"kornia": "0.9.0"}
