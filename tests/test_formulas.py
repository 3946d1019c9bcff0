"""From statistics to the loss: aggregation, active classes, weights, the Tversky family, 0/0.

These formulas are shared by all backends; what is expected is written out here in loops.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from operators import formula_arguments, operator_arguments
from torch import Tensor

import jml_kernels as jml
from jml_kernels import formulas, functional, objective
from jml_kernels.checks import REDUCTIONS
from jml_kernels.objective import Objective, Term
from jml_kernels.overlaps import OVERLAPS
from jml_kernels.statistics import ALL_COLUMNS, COLUMNS, by_name, column_bits

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = ["all", "present", "label", "prob", "both"]
N, C = 3, 4


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """(logits, soft target) of 3 images and 4 classes, float64. Class 3 is below the threshold
    everywhere; class 2 is above it, and present, in image 0 only."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, C, 3, 5, generator=generator, dtype=torch.float64)
    target = torch.softmax(3 * torch.randn(N, C, 3, 5, generator=generator).double(), dim=1)
    target[1:, 2] = 0.005
    target[:, 3] = 0.009
    return logits, target


def compute_active_classes(
    prob: Tensor, soft_label: Tensor, mode: str, num_classes: int, threshold: float
) -> Tensor:
    """Figure 4 of the paper, as printed."""
    if mode == "all":
        idx = torch.arange(num_classes)
    elif mode == "present":
        idx = torch.argmax(soft_label, dim=1).unique()
    elif mode == "prob":
        idx = torch.amax(prob, dim=(0, 2, 3)) > threshold
    elif mode == "label":
        idx = torch.amax(soft_label, dim=(0, 2, 3)) > threshold
    elif mode == "both":
        idx = torch.amax(prob + soft_label, dim=(0, 2, 3)) > threshold
    active_classes = torch.arange(num_classes)[idx]
    return active_classes


def class_loss(x: Tensor, y: Tensor) -> float:
    """Eq. 12 for one class; 0/0 is 0."""
    both, difference = (x + y).sum().item(), (x - y).abs().sum().item()
    total = both + difference
    return 1 - (both - difference) / total if total else 0.0


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def expected_aggregate(x: Tensor, y: Tensor, how: str, active) -> float:
    """`active(n, c)` says whether class c counts in image n."""
    if how == "dataset":
        classes = [c for c in range(C) if any(active(n, c) for n in range(N))]
        return mean([class_loss(x[:, c], y[:, c]) for c in classes])
    pairs = [(n, c) for n, c in itertools.product(range(N), range(C)) if active(n, c)]
    loss = {pair: class_loss(x[pair], y[pair]) for pair in pairs}
    index = 0 if how == "image" else 1
    groups = [[loss[p] for p in pairs if p[index] == i] for i in range(N if how == "image" else C)]
    return mean([mean(group) for group in groups if group])


# ---- active classes ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threshold", [0.01, 0.4, 0.8, 1.3])
def test_active_classes_are_those_of_figure_4(mode, threshold, batch):
    logits, target = batch
    prob = torch.softmax(logits, dim=1)
    expected = compute_active_classes(prob, target, mode, C, threshold)
    active = jml.active_classes(prob, target, mode, threshold)
    assert active.dtype == torch.bool
    assert active.nonzero().flatten().tolist() == expected.tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threshold", [0.01, 0.4, 0.8, 1.3])
def test_the_loss_is_over_active_classes(mode, threshold, batch, backend, device):
    logits, target = batch
    prob = torch.softmax(logits, dim=1)
    active = compute_active_classes(prob, target, mode, C, threshold).tolist()
    loss = jml.JaccardMetricLoss(active_classes=mode, active_threshold=threshold, backend=backend)(
        logits.to(device), target.to(device)
    )
    assert loss.item() == pytest.approx(
        mean([class_loss(prob[:, c], target[:, c]) for c in active]), abs=1e-14
    )


def test_active_classes_of_labels():
    """With integer labels "label" and "present" are the classes that occur where pixels count."""
    prob = torch.full((1, 4, 3), 0.25)
    labels = torch.tensor([[0, 2, 3]])
    mask = torch.tensor([[True, True, False]])
    for mode in ("label", "present"):
        assert jml.active_classes(prob, labels, mode).tolist() == [True, False, True, True]
        masked = jml.active_classes(prob, labels, mode, mask=mask)
        assert masked.tolist() == [True, False, True, False]


def test_the_threshold_itself_is_not_active(batch):
    _, target = batch
    prob = torch.full_like(target, 0.25)
    assert not jml.active_classes(prob, target, "prob", threshold=0.25).any()
    assert jml.active_classes(prob, target, "prob", threshold=0.2499).all()


def test_present_is_the_first_of_equal_maxima():
    """As torch.argmax: a uniform target makes class 0 present and no other."""
    uniform = torch.full((1, 4, 3), 0.25, dtype=torch.float64)
    assert jml.active_classes(uniform, uniform, "present").tolist() == [True, False, False, False]


def test_present_is_the_first_of_equal_maxima_in_every_backend(backend, device):
    target = torch.tensor([[0.2, 0.4], [0.4, 0.2], [0.4, 0.4]], device=device)[None]
    statistics = jml.class_statistics(torch.zeros_like(target), target, backend=backend)
    assert statistics.present.tolist() == [[True, True, False]]


# ---- aggregation ---------------------------------------------------------------------------------


def active_in(x: Tensor, y: Tensor, mode: str):
    def active(n: int, c: int) -> bool:
        return {
            "all": lambda: True,
            "present": lambda: (y[n].argmax(0) == c).any().item(),
            "label": lambda: y[n, c].max().item() > 0.01,
            "prob": lambda: x[n, c].max().item() > 0.01,
            "both": lambda: (x + y)[n, c].max().item() > 0.01,
        }[mode]()

    return active


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["dataset", "image", "class"])
def test_aggregation(how, mode, batch, backend, device):
    logits, target = batch
    x = torch.softmax(logits, dim=1)
    expected = expected_aggregate(x, target, how, active_in(x, target, mode))
    options = {"aggregation": how, "active_classes": mode, "backend": backend}
    loss = jml.JaccardMetricLoss(**options)(logits.to(device), target.to(device))
    assert loss.item() == pytest.approx(expected, abs=1e-14)


def test_the_three_aggregations_differ(batch):
    """Otherwise the test above could not tell them apart."""
    losses = [
        jml.JaccardMetricLoss(aggregation=how)(*batch).item()
        for how in ("dataset", "image", "class")
    ]
    assert min(abs(a - b) for a, b in itertools.combinations(losses, 2)) > 1e-3


def test_mixture_of_aggregations(batch):
    logits, target = batch
    weights = {"dataset": 0.2, "image": 0.5, "class": 2.0}
    expected = sum(
        weight * jml.JaccardMetricLoss(aggregation=how)(logits, target)
        for how, weight in weights.items()
    )
    loss = jml.JaccardMetricLoss(aggregation=weights)(logits, target)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)


# ---- reduction and class weights -----------------------------------------------------------------


def test_reduction_none_is_per_class(batch):
    logits, target = batch
    x = torch.softmax(logits, dim=1)
    options = {"reduction": "none"}
    loss = jml.JaccardMetricLoss(**options)(logits, target)
    expected = [class_loss(x[:, c], target[:, c]) for c in range(3)] + [0.0]
    assert loss.tolist() == pytest.approx(expected, abs=1e-14)

    loss = jml.JaccardMetricLoss(aggregation="image", **options)(logits, target)
    active = active_in(x, target, "label")
    for n, c in itertools.product(range(N), range(C)):
        right = class_loss(x[n, c], target[n, c]) if active(n, c) else 0.0
        assert loss[n, c].item() == pytest.approx(right, abs=1e-14)
    assert loss.shape == (N, C)

    loss = jml.JaccardMetricLoss(aggregation="class", **options)(logits, target)
    expected = [
        mean([class_loss(x[n, c], target[n, c]) for n in range(N) if active(n, c)])
        for c in range(C)
    ]
    assert loss.tolist() == pytest.approx(expected, abs=1e-14)


def test_reduction_none_of_one_named_weight(batch):
    one = jml.JaccardMetricLoss(reduction="none", aggregation={"image": 0.5})(*batch)
    all_of_it = jml.JaccardMetricLoss(reduction="none", aggregation="image")(*batch)
    torch.testing.assert_close(one, 0.5 * all_of_it)


@pytest.mark.parametrize("how", ["dataset", "image", "class"])
def test_class_weights_multiply_and_the_mean_stays_over_the_number(how, batch):
    """Not over the weights' sum: doubling all weights doubles the loss."""
    logits, target = batch
    weights = torch.tensor([0.5, 2.0, 3.0, 100.0])
    loss = jml.JaccardMetricLoss(class_weights=weights, aggregation=how)(logits, target)
    doubled = jml.JaccardMetricLoss(class_weights=2 * weights, aggregation=how)(logits, target)
    torch.testing.assert_close(doubled, 2 * loss)

    each = jml.JaccardMetricLoss(reduction="none", aggregation=how)(logits, target)
    if how == "image":
        counts = [3, 2, 2]  # active classes per image
        expected = mean([
            (each[n] * weights).sum().item() / counts[n] for n in range(N)
        ])  # fmt: skip
    else:
        expected = (each * weights).sum().item() / 3  # class 3 is not active, whatever its weight
    assert loss.item() == pytest.approx(expected)


# ---- the Tversky family --------------------------------------------------------------------------


def counts(x: Tensor, y: Tensor, overlap: str, c: int) -> tuple[float, float, float]:
    """(TP, FP, FN) of section 2's table, from the norms."""
    x, y = x[:, c], y[:, c]
    tp = torch.minimum(x, y).sum() if overlap == "metric1" else (x * y).sum()
    if overlap.startswith("metric"):
        fp, fn = (x - y).clamp(min=0).sum(), (y - x).clamp(min=0).sum()
    elif overlap == "soft1":
        fp, fn = x.sum() - tp, y.sum() - tp
    else:
        fp, fn = (x * x).sum() - tp, (y * y).sum() - tp
    return tp.item(), fp.item(), fn.item()


FAMILY = {
    "metric1": (functional.jaccard_metric_loss, {"variant": 1}),
    "metric2": (functional.jaccard_metric_loss, {"variant": 2}),
    "soft1": (functional.soft_jaccard_loss, {"norm": 1}),
    "soft2": (functional.soft_jaccard_loss, {"norm": 2}),
}


@pytest.mark.parametrize("overlap", FAMILY)
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.0, "beta": 1.0},
        {"alpha": 0.5, "beta": 0.5},
        {"alpha": 0.3, "beta": 0.7},
        {"alpha": 0.0, "beta": 1.0},
        {"gamma": 2.0},
        {"gamma": 0.75, "alpha": 0.3},
        {"smooth": 1.0},
        {"smooth": 0.1, "gamma": 1.5, "alpha": 0.3, "beta": 0.7},
        {"log_loss": True},
        {"log_loss": True, "smooth": 0.5, "alpha": 0.3, "beta": 0.7},
    ],
    ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items()),
)
def test_tversky_index(overlap, options, batch, backend, device):
    logits, target = batch
    function, which = FAMILY[overlap]
    on_device = (logits.to(device), target.to(device))
    loss = function(*on_device, active_classes="all", backend=backend, **which, **options)
    x = torch.softmax(logits, dim=1)
    alpha, beta = options.get("alpha", 1.0), options.get("beta", 1.0)
    smooth = options.get("smooth", 0.0)
    expected = []
    for c in range(C):
        tp, fp, fn = counts(x, target, overlap, c)
        index = (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
        # With squared norms ||y||^2 - <x, y> may be negative, and the index above 1. A power of
        # what is left is cut at 0.
        gamma = options.get("gamma", 1)
        error = 1 - index if gamma == 1 else max(1 - index, 0) ** gamma
        expected.append(-math.log(index) if options.get("log_loss") else error)
    assert loss.item() == pytest.approx(mean(expected), rel=1e-12)


def test_dice_is_the_family_at_one_half(batch):
    for variant in (1, 2):
        dice = functional.dice_semimetric_loss(*batch, variant=variant)
        family = functional.jaccard_metric_loss(*batch, variant=variant, alpha=0.5, beta=0.5)
        tversky = functional.tversky_metric_loss(*batch, variant=variant, alpha=0.5, beta=0.5)
        assert dice == family == tversky
        dice = functional.soft_dice_loss(*batch, norm=variant)
        assert dice == functional.soft_jaccard_loss(*batch, norm=variant, alpha=0.5, beta=0.5)


def test_soft_dice_is_the_dice_score(batch):
    """1 - 2 <x, y> / (||x|| + ||y||)."""
    logits, target = batch
    x = torch.softmax(logits, dim=1)
    for norm in (1, 2):
        size = [(t**norm).sum(dim=(0, 2, 3)) for t in (x, target)]
        expected = (1 - 2 * (x * target).sum(dim=(0, 2, 3)) / sum(size)).mean()
        loss = functional.soft_dice_loss(logits, target, norm=norm, active_classes="all")
        torch.testing.assert_close(loss, expected)


# ---- 0/0, and where the formulas are steep -------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"log_loss": True},
        {"gamma": 0.5},
        {"gamma": 2.0},
        {"alpha": 0.0, "beta": 0.0},
        {"smooth": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("overlap", FAMILY)
def test_zero_over_zero_is_zero(overlap, options):
    """A class that neither x nor y has, counted by active_classes="all"."""
    x = torch.zeros(1, 2, 4, dtype=torch.float64)
    x[:, 0] = 1
    x.requires_grad_()
    function, which = FAMILY[overlap]
    loss = function(
        x, x.detach().clone(), activation="none", active_classes="all",
        backend="reference", **which, **options,
    )  # fmt: skip
    loss.backward()
    assert loss.item() == 0
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.5, 2.0])
def test_a_perfect_class_has_a_finite_gradient(gamma):
    """The derivative of 0^gamma is infinite for gamma < 1."""
    logits = torch.tensor([[[100.0, -100.0], [-100.0, 100.0]]], requires_grad=True)
    loss = jml.TverskyMetricLoss(0.5, 0.5, gamma=gamma)(logits, torch.tensor([[0, 1]]))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_no_overlap_under_the_logarithm_is_finite(backend, device):
    """The logarithm takes 1e-7 in place of an index of 0, where its gradient is 0."""
    x = torch.tensor([[[1.0, 0.0]]], device=device, requires_grad=True)
    y = torch.tensor([[[0.0, 1.0]]], device=device)
    options = {"activation": "none", "log_loss": True, "backend": backend}
    loss = jml.JaccardMetricLoss(**options)(x, y)
    assert loss.item() == pytest.approx(-math.log(1e-7))
    (gradient,) = torch.autograd.grad(loss, x)
    assert (gradient == 0).all()
    loss = jml.JaccardMetricLoss(smooth=1.0, **options)(x, y)
    assert loss.item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_nothing_active_is_zero(mode, reduction, batch):
    logits, target = batch
    logits.requires_grad_()
    options = {"active_classes": mode, "active_threshold": 3.0, "reduction": reduction}
    mask = torch.zeros(N, 3, 5, dtype=torch.bool)
    loss = jml.JaccardMetricLoss(**options)(logits, target, mask)
    loss.sum().backward()
    assert (loss == 0).all()
    assert (logits.grad == 0).all()


def test_a_threshold_above_everything_leaves_no_class(batch):
    logits, target = batch
    loss = jml.JaccardMetricLoss(active_threshold=2.5, active_classes="both")(logits, target)
    assert loss.item() == 0


@given(
    tp=st.floats(0, 1e6),
    fp=st.floats(0, 1e6),
    fn=st.floats(0, 1e6),
    alpha=st.floats(0, 2),
    beta=st.floats(0, 2),
    smooth=st.floats(0, 10),
)
def test_class_losses_lie_between_0_and_1(tp, fp, fn, alpha, beta, smooth):
    triple = tuple(torch.tensor([v], dtype=torch.float64) for v in (tp, fp, fn))
    (loss,) = formulas.class_losses(triple, alpha, beta, (smooth, smooth), 1.0, False).tolist()
    assert 0 <= loss <= 1


@pytest.mark.parametrize("aggregation", ["dataset", "image", "class"])
def test_an_inactive_class_with_an_infinite_loss_has_no_gradient(aggregation, backend, device):
    """-log(0 / ...) of a class that is absent: the loss leaves it out, and so does the gradient."""
    logits = torch.zeros(2, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    labels = torch.zeros(2, 4, dtype=torch.int64, device=device)
    loss = functional.jaccard_metric_loss(
        logits, labels, log_loss=True, aggregation=aggregation, backend=backend
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(math.log(3))
    assert gradient.isfinite().all()


# ---- the formula of the operators ----------------------------------------------------------------


@given(data=st.data())
def test_operators_finish_the_loss_by_the_same_formula(finished, device, data):
    assert_formula(finished, device, data.draw)


def assert_formula(finished: str, device: str, draw) -> None:
    """Value, and gradients of sums and totals, on the operator's own statistics. Columns that
    nothing asks for are there too, and have no gradient."""
    seed = draw(st.integers(0, 100), label="seed")
    n, c = draw(st.integers(1, 3), label="images"), draw(st.integers(1, 7), label="classes")
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = 3 * torch.randn(2, n, c, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, c, (n, 4), generator=generator)
    weight = st.sampled_from([0.0, 0.3, 1.0])
    chosen = {
        name: draw(st.sampled_from(MODES), label=name) for name in ("label_active", "dense_active")
    }
    chosen["overlap"] = draw(st.sampled_from(list(OVERLAPS)), label="overlap")
    weighted = [f"{t}_{what}_weight" for t in ("label", "dense") for what in ("ce", "overlap")]
    for name in ("alpha", "beta", *weighted):
        chosen[name] = draw(weight, label=name)
    mixtures = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.3, 0.2)])
    mixture = draw(mixtures, label="aggregation")
    chosen |= dict(zip(("dataset", "image", "per_class"), mixture, strict=True))
    chosen["gamma"] = draw(st.sampled_from([1.0, 0.7, 2.0]), label="gamma")
    smooth = draw(st.sampled_from([(0.0, 0.0), (0.5, 0.5), (0.0, 0.5), (1.0, 0.5)]), label="smooth")
    chosen["smooth_numerator"], chosen["smooth_denominator"] = smooth
    inactive_loss = draw(st.sampled_from([None, 0.0, 0.7]), label="inactive_loss")
    chosen["has_inactive_loss"] = int(inactive_loss is not None)
    chosen["inactive_loss"] = inactive_loss or 0.0
    chosen["weighted_mean"] = draw(st.booleans(), label="weighted_mean")
    reductions = ("mean", "sum", "image") if mixture == (0.0, 1.0, 0.0) else ("mean", "sum")
    reduction = draw(st.sampled_from(reductions), label="reduction")
    chosen["reduction"] = REDUCTIONS.index(reduction)
    class_mask = torch.arange(c) % 3 != 1 if draw(st.booleans(), label="classes") else None
    chosen["log_loss"] = draw(st.booleans(), label="log_loss")
    chosen["is_divergence"] = draw(st.booleans(), label="is_divergence")
    chosen["active_threshold"] = draw(st.sampled_from([0.01, 0.5]), label="threshold")
    weights = torch.rand(c, generator=generator) if draw(st.booleans(), label="weights") else None
    rule = operator_arguments(
        logits.to(device), labels.to(device), teacher.to(device), teacher_temperature=1.0
    )
    operator = getattr(torch.ops.jml_kernels, f"{finished}_loss")
    formula = formula_arguments(
        **chosen,
        class_weights=None if weights is None else weights.to(device),
        class_mask=None if class_mask is None else class_mask.to(device),
    )
    found = operator(**rule, **formula)

    sums, extrema, totals = getattr(torch.ops.jml_kernels, f"{finished}_statistics")(**rule)
    sums, extrema, totals = sums.cpu(), extrema.cpu(), totals.cpu()
    sums.requires_grad_(), totals.requires_grad_()
    options = functional.LossOptions(
        **{name: chosen[name] for name in ("alpha", "beta", "gamma", "log_loss", "weighted_mean")},
        smooth=smooth,
        inactive_loss=inactive_loss,
        reduction=reduction,
        active_threshold=chosen["active_threshold"],
        aggregation=dict(zip(("dataset", "image", "class"), mixture, strict=True)),
    )
    terms = [
        Term(chosen[f"{t}_ce_weight"], chosen[f"{t}_overlap_weight"], chosen[f"{t}_active"])
        for t in ("label", "dense")
    ]
    asked = Objective(chosen["overlap"], options, *terms, is_divergence=chosen["is_divergence"])
    expected = formulas.objective_loss(*by_name(sums, extrema, totals), asked, weights, class_mask)
    expected = torch.as_tensor(expected, dtype=torch.float64) + 0 * (sums.sum() + totals.sum())
    expected = expected.expand_as(found[0])  # without a term it is one 0
    gradients = torch.autograd.grad(expected.sum(), (sums, totals))
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(found[0].cpu(), expected.detach(), **close)
    if (
        expected.isfinite().all()
    ):  # else no gradient means anything: -log 0, of a class without a hit
        for one, other in zip(found[1:], gradients, strict=True):
            torch.testing.assert_close(one.cpu(), other, **close)


def test_class_weights_may_be_learned(backend, device, batch):
    """The operators' own formula has no gradient for them."""
    weights = torch.ones(C, device=device, requires_grad=True)
    logits, target = (tensor.to(device) for tensor in batch)
    loss = functional.jaccard_metric_loss(logits, target, class_weights=weights, backend=backend)
    (gradient,) = torch.autograd.grad(loss, weights)
    parts = functional.jaccard_metric_loss(logits, target, reduction="none", backend=backend)
    active = jml.active_classes(logits.softmax(1), target)
    torch.testing.assert_close(gradient.double(), parts / active.sum())


# ---- columns -------------------------------------------------------------------------------------


def test_column_bits():
    assert column_bits("true_positive", "false_negative") == 0b101
    assert column_bits(*COLUMNS) == ALL_COLUMNS == 2 ** len(COLUMNS) - 1


@pytest.mark.parametrize("overlap", FAMILY)
@pytest.mark.parametrize("mode", MODES)
def test_a_loss_asks_for_every_column_that_it_reads(overlap, mode, batch, monkeypatch):
    """The reference leaves columns that are not asked for at 0: asking for all changes nothing."""
    function, which = FAMILY[overlap]
    loss = function(*batch, active_classes=mode, backend="reference", **which)
    monkeypatch.setattr(objective, "overlap_columns", lambda matrix: ALL_COLUMNS)
    assert function(*batch, active_classes=mode, backend="reference", **which) == loss
