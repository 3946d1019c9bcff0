"""JDTLoss against its semantics, written out in float64, and where it is better than its model."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jml_kernels as jml


def semantics(
    logits, label, keep_mask=None, *, mIoUD=1.0, mIoUI=0.0, mIoUC=0.0, alpha=1.0, beta=1.0,  # noqa: N803
    gamma=1.0, smooth=1e-3, threshold=0.01, norm=1, log_loss=False, ignore_index=None,
    class_weights=None, active_classes_mode_hard="PRESENT", active_classes_mode_soft="ALL",
):  # fmt: skip
    """The loss as it is defined, class by class, with norms and their differences."""
    n, c = logits.shape[:2]
    p = logits.double().unsqueeze(-1).flatten(2).softmax(1)
    hard = not label.is_floating_point()
    keep = torch.ones(n, 1, p.shape[2], dtype=torch.bool)
    if keep_mask is not None:
        keep = keep_mask.reshape(n, 1, -1)
    elif hard and ignore_index is not None:
        keep = (label != ignore_index).reshape(n, 1, -1)
    if hard:
        label = label.reshape(n, 1, -1).long()
        y = torch.zeros_like(p).scatter(1, torch.where(keep, label, 0), 1.0)
    else:
        y = label.double().unsqueeze(-1).flatten(2)
    p, y = p * keep, y * keep
    size = lambda values: values.abs().pow(norm).sum(-1)  # noqa: E731
    tp = (size(p) + size(y) - size(p - y)) / 2
    fp, fn = size(p) - tp, size(y) - tp
    mode = active_classes_mode_hard if hard else active_classes_mode_soft
    active = y.amax(-1) > threshold if mode == "PRESENT" else torch.ones(n, c, dtype=torch.bool)

    def loss_of(counts, i):
        tp, fp, fn = counts
        score = (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
        loss = -score.log() if log_loss else 1 - score
        loss = loss.clamp(min=0) ** gamma if gamma > 1 else loss
        return loss * (1 if class_weights is None else class_weights[i])

    mean = lambda values: sum(values) / len(values) if values else 0.0 * tp.sum()  # noqa: E731
    per_batch = [
        loss_of([count[:, i].sum() for count in (tp, fp, fn)], i)
        for i in range(c)
        if active[:, i].any()
    ]
    single = {
        (b, i): loss_of([count[b, i] for count in (tp, fp, fn)], i)
        for b in range(n)
        for i in range(c)
        if active[b, i]
    }
    images = [[v for (b, _), v in single.items() if b == image] for image in range(n)]
    classes = [[v for (_, i), v in single.items() if i == channel] for channel in range(c)]
    return (
        mIoUD * mean(per_batch)
        + mIoUI * mean([mean(values) for values in images if values])
        + mIoUC * mean([mean(values) for values in classes if values])
    )


@st.composite
def configurations(draw):
    weight = st.sampled_from([0.0, 0.5, 1.0])
    classes = draw(st.integers(2, 5))
    options = {
        "mIoUD": draw(weight),
        "mIoUI": draw(weight),
        "mIoUC": draw(weight),
        "alpha": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "beta": draw(st.sampled_from([0.3, 0.5, 1.0])),
        "gamma": draw(st.sampled_from([1.0, 1.5, 2.0])),
        "smooth": draw(st.sampled_from([1e-3, 0.5])),
        "threshold": draw(st.sampled_from([0.01, 0.4])),
        "norm": draw(st.sampled_from([1, 2])),
        "log_loss": draw(st.booleans()),
        "ignore_index": draw(st.sampled_from([None, 0, 255])),
        "class_weights": draw(st.sampled_from([None, [1.0, 0.5, 2.0, 0.0, 3.0][:classes]])),
        "active_classes_mode_hard": draw(st.sampled_from(["ALL", "PRESENT"])),
        "active_classes_mode_soft": draw(st.sampled_from(["ALL", "PRESENT"])),
    }
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    spatial = draw(st.sampled_from([(), (7,), (4, 5), (2, 3, 4)]))
    shape = (draw(st.integers(1, 3)), classes, *spatial)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        label = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(1)
        label = (label - 0.2).clamp(min=0)  # so that some classes are absent
    else:
        label = torch.randint(0, classes, (shape[0], *spatial), generator=generator)
        if options["ignore_index"] == 255:
            label[torch.rand(label.shape, generator=generator) < 0.3] = 255
    keep = None
    if draw(st.booleans()) and not (label == 255).any():
        keep = torch.rand(shape[0], *spatial, generator=generator) < draw(
            st.sampled_from([0.0, 0.6])
        )
    return options, logits, label, keep


@given(configurations())
def test_semantics(configuration):
    options, logits, label, keep = configuration
    logits.requires_grad_()
    loss = jml.JDTLoss(**options)(logits, label, keep)
    right = semantics(logits, label, keep, **options)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(right.item(), rel=1e-6, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(right, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)


def test_defaults_and_the_call_are_the_authors():
    parameters = inspect.signature(semantics).parameters.values()
    expected = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    parameters = inspect.signature(jml.JDTLoss).parameters.values()
    ours = {"process_group": None, "gradients": "averaged"}  # keywords alone, after theirs
    assert {p.name: p.default for p in parameters} == expected | ours
    assert [*inspect.signature(jml.JDTLoss().forward).parameters] == [
        "logits", "label", "keep_mask",
    ]  # fmt: skip


def test_positions_of_arguments():
    """As the authors' class takes them."""
    options = {
        "mIoUD": 0.5,
        "mIoUI": 0.25,
        "mIoUC": 0.125,
        "alpha": 0.3,
        "beta": 0.7,
        "gamma": 2.0,
        "smooth": 0.1,
        "threshold": 0.2,
        "norm": 2,
        "log_loss": True,
        "ignore_index": 7,
        "class_weights": [1.0, 2.0],
        "active_classes_mode_hard": "ALL",
        "active_classes_mode_soft": "PRESENT",
    }
    loss = jml.JDTLoss(*options.values())
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    label = torch.randint(0, 2, (2, 5, 5))
    label[0, 0] = 7
    right = semantics(logits, label, **options)
    assert loss(logits, label).item() == pytest.approx(right.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "label", "keep", "expected"),
    [
        # Two pixels with p = 1/2 each and label 0: TP = FP = FN = 1/2 of class 0 are 1, 0, 1.
        ({"smooth": 0.0}, [0, 0], None, 0.5),
        ({"smooth": 1.0}, [0, 0], None, 1 / 3),
        ({"smooth": 0.0, "active_classes_mode_hard": "ALL"}, [0, 0], None, 0.75),
        ({"smooth": 0.0, "log_loss": True}, [0, 0], None, math.log(2)),
        ({"smooth": 0.0, "gamma": 2.0}, [0, 0], None, 0.25),
        ({"smooth": 0.0, "ignore_index": 1}, [0, 1], None, 0.5),
        ({"smooth": 0.0}, [0, 9], [True, False], 0.5),
        ({"smooth": 0.0, "ignore_index": 0}, [0, 0], [True, True], 0.5),  # replaced by the mask
        ({"smooth": 0.0, "ignore_index": 0}, [0, 0], None, 0.0),
        ({"mIoUD": 0.0}, [0, 0], None, 0.0),
    ],
)
def test_by_hand(options, label, keep, expected):
    keep = None if keep is None else torch.tensor([keep])
    loss = jml.JDTLoss(**options)(torch.zeros(1, 2, 2), torch.tensor([label]), keep)
    assert loss.item() == pytest.approx(expected, abs=1e-7)


def test_zero_weight_takes_a_part_out():
    """The image without class 0 has an infinite loss that nobody asked for."""
    logits = torch.tensor([[[50.0], [-50.0]], [[-200.0], [0.0]]])
    label = torch.tensor([[0], [0]])
    loss = jml.JDTLoss(mIoUD=1.0, smooth=0.0, log_loss=True)(logits, label)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_small_class_in_a_large_image():
    """Float32 sums of p + y and |p - y| lose the digits of ten pixels among a million."""
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 1024, 1024)
    logits[:, 1] -= 12
    label = torch.zeros(1, 1024, 1024, dtype=torch.long)
    label[0, 0, :10] = 1
    loss = jml.JDTLoss(alpha=0.0, smooth=0.0)(logits, label)
    right = semantics(logits, label, alpha=0.0, smooth=0.0)
    assert loss.item() == pytest.approx(right.item(), abs=1e-6)


def test_power_of_a_nearly_perfect_prediction():
    torch.manual_seed(0)
    logits = (3 * torch.randn(1, 5, 64, 64)).requires_grad_()
    label = logits.detach().softmax(1)
    loss = jml.JDTLoss(gamma=1.5)(logits, label)
    assert 0 <= loss.item() < 1e-6
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_every_integer_dtype_is_a_hard_label(dtype):
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    label[0, 0] = 255
    loss = jml.JDTLoss(ignore_index=255)
    assert loss(logits, label.to(dtype)) == loss(logits, label)


def test_sliced_logits():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 9, 8), torch.randint(0, 3, (2, 9, 8))
    loss = jml.JDTLoss()
    wide = torch.randn(2, 3, 9, 16)
    wide[..., ::2] = logits
    assert loss(wide[..., ::2], label).item() == pytest.approx(loss(logits, label).item(), abs=1e-7)


def test_label_out_of_range():
    with pytest.raises(IndexError, match=r"label 3 .*expected a label in \[0, 3\)"):
        jml.JDTLoss()(torch.zeros(1, 3, 2), torch.tensor([[0, 3]]))
    with pytest.raises(IndexError, match="label -100"):
        jml.JDTLoss()(torch.zeros(1, 3, 2), torch.tensor([[0, -100]]))


def test_soft_labels_know_no_ignore_index():
    torch.manual_seed(0)
    logits, label = torch.randn(1, 3, 7), torch.rand(1, 3, 7)
    assert jml.JDTLoss(ignore_index=0)(logits, label) == jml.JDTLoss()(logits, label)


@pytest.mark.parametrize("soft", [False, True])
def test_nan_in_a_pixel_that_does_not_count_goes_nowhere(soft):
    torch.manual_seed(0)
    logits, label = torch.randn(1, 3, 7), torch.randint(0, 3, (1, 7))
    label = torch.rand(1, 3, 7) if soft else label
    keep = torch.arange(7).view(1, -1) != 3
    expected = jml.JDTLoss()(logits, label, keep)
    for broken in (logits, label) if soft else (logits,):
        broken[..., 3] = math.nan
    logits.requires_grad_()
    loss = jml.JDTLoss()(logits, label, keep)
    assert loss == expected
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[..., 3] == 0).all()
    assert gradient.isfinite().all()


@pytest.mark.skipif(jml.backends()["cpu"] is not None, reason="the C++ extension is not built")
def test_soft_labels_that_require_grad():
    """Kernels have no gradient for them."""
    label = torch.rand(1, 3, 7).requires_grad_()
    with pytest.raises(ValueError, match=r"label requires grad.*label\.detach"):
        jml.JDTLoss()(torch.randn(1, 3, 7), label)


def test_arguments_are_named_as_in_the_call():
    logits, label = torch.zeros(1, 3, 2), torch.tensor([[0, 3]])
    loss = jml.JDTLoss()
    with pytest.raises(IndexError, match=r"^label has label 3 at position \(0, 1\)"):
        loss(logits, label)
    with pytest.raises(ValueError, match=r"^label has value 2 at position \(0, 0, 0\)"):
        loss(logits, torch.full((1, 3, 2), 2.0))
    with pytest.raises(ValueError, match=r"^label has shape \(1, 1, 2\).*label\.squeeze\(1\)"):
        loss(logits, label[:, None])
    with pytest.raises(ValueError, match=r"^label has shape \(1, 2\).*label\.long\(\)"):
        loss(logits, label.float())
    with pytest.raises(TypeError, match=r"^label is a list: expected a Tensor"):
        loss(logits, [[0, 1]])
    with pytest.raises(TypeError, match=r"^keep_mask has dtype torch\.int64"):
        loss(logits, label, label)
    with pytest.raises(TypeError, match=r"^logits is a list: expected a Tensor"):
        loss([0.0], label)
    with pytest.raises(TypeError, match="'smoth': did you mean 'smooth'"):
        jml.JDTLoss(smoth=0.1)


def test_repr_is_the_call_of_the_constructor():
    assert repr(jml.JDTLoss()) == "JDTLoss()"
    options = {
        "mIoUD": 0.5, "mIoUI": 0.25, "mIoUC": 0.125, "alpha": 0.3, "beta": 0.7, "gamma": 2.0,
        "smooth": 0.0, "threshold": 0.5, "norm": 2, "log_loss": True, "ignore_index": 255,
        "class_weights": [1.0, 2.0], "active_classes_mode_hard": "ALL",
        "active_classes_mode_soft": "PRESENT",
    }  # fmt: skip
    shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
    assert repr(jml.JDTLoss(**options)) == f"JDTLoss({shown})"


def test_class_weights_are_a_buffer():
    loss = jml.JDTLoss(class_weights=[1.0, 2.0])
    assert loss.class_weights.dtype == torch.float32
    assert loss.double().class_weights.dtype == torch.float64


def test_compiles_without_a_graph_break():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    label, keep = torch.randint(0, 3, (2, 8, 8)), torch.rand(2, 8, 8) < 0.7
    loss = jml.JDTLoss(mIoUD=0.5, mIoUI=0.5, gamma=2.0, ignore_index=255)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for mask in (None, keep):
        assert compiled(logits, label, mask).item() == pytest.approx(
            loss(logits, label, mask).item(), abs=1e-7
        )


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("soft", [False, True])
def test_gradcheck(norm, soft):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 3, (2, 4))
    if soft:
        label = torch.randn(2, 3, 4, dtype=torch.float64).softmax(1)
    options = {"mIoUD": 1.0, "mIoUI": 0.5, "mIoUC": 0.25, "gamma": 1.5, "class_weights": [1, 2, 3]}
    loss = jml.JDTLoss(norm=norm, **options)
    assert torch.autograd.gradcheck(lambda z: loss(z, label), logits)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mIoUD": -1.0}, "mIoUD=-1.0: expected a finite number >= 0"),
        ({"mIoUI": "1"}, "mIoUI='1': expected a number"),
        ({"alpha": -0.5}, "alpha=-0.5: expected"),
        ({"gamma": 0.5}, "gamma=0.5: expected a number >= 1"),
        ({"smooth": -1e-3}, "smooth=-0.001: expected"),
        ({"threshold": -1}, "threshold=-1: expected"),
        ({"norm": 3}, "norm=3: expected 1 or 2"),
        ({"norm": True}, "norm=True: expected 1 or 2"),
        ({"ignore_index": 0.5}, "ignore_index=0.5: expected an integer"),
        ({"active_classes_mode_hard": "all"}, "active_classes_mode_hard='all': expected one of"),
        ({"active_classes_mode_soft": None}, "active_classes_mode_soft=None: expected one of"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises((TypeError, ValueError)) as error:
        jml.JDTLoss(**options)
    assert words in str(error.value)
