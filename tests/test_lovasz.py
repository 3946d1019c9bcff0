"""The Lovász losses against appendix A in float64, on every way in which they are computed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import lovasz_oracle as oracle
import pytest
import torch
from needs import cpu_kernels
from steps import step

import jml_kernels as jml
from jml_kernels import functional
from jml_kernels.accuracy import GRADIENT_TOLERANCE, LOSS_TOLERANCE
from jml_kernels.lovasz import call, extension, operators
from jml_kernels.memory import MEBIBYTE, peak_memory

pytestmark = pytest.mark.usefixtures("one_thread")

#: "any" is what devices without kernels of these losses run.
WAYS = ["reference", "any"]
if jml.backends()["cpu"] is None:
    WAYS.append("cpu")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch) -> str:
    """Every way to compute the losses."""
    monkeypatch.setattr(call, "_chosen", lambda options, logits: request.param)
    if request.param == "any":
        for module in (call, operators):
            monkeypatch.setattr(module, "evaluation", lambda *_: extension.evaluate)
    return request.param


def drawn(shape, dtype=torch.float32, labels=torch.int64, ignored=0.0, scale=2.0):
    """Logits and labels, of which a share is ignored."""
    generator = torch.Generator().manual_seed(sum(shape))
    logits = (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    size = (shape[0], *shape[2:])
    classes = max(shape[1], 2)
    target = torch.randint(0, classes, size, generator=generator)
    target[torch.rand(size, generator=generator) < ignored] = -100
    return logits, target.to(labels)


def drawn_mask(target):
    return torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.8


def assert_same(found, expected, dtype):
    (loss, gradient), (right, right_gradient) = found, expected
    assert loss.shape == ()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    assert abs(loss.item() - right.item()) <= LOSS_TOLERANCE[dtype]
    error = (gradient.double() - right_gradient.double()).norm()
    assert error <= GRADIENT_TOLERANCE[dtype] * right_gradient.double().norm() + 1e-9


def assert_right(logits, target, mask=None, loss=functional.lovasz_softmax_loss, **options):
    expected = oracle.softmax_loss if loss is functional.lovasz_softmax_loss else oracle.hinge_loss
    found = step(loss, logits, target, mask, **options)
    options.pop("backend", None)
    right = step(expected, logits.double(), target, mask, **options)
    assert_same(found, right, logits.dtype)


# ---- the extension -------------------------------------------------------------------------------


def evaluated(errors, is_label):
    parts = errors.unsqueeze(0), is_label.unsqueeze(0), torch.ones_like(is_label).unsqueeze(0)
    value, slopes = extension.evaluate(*parts)
    return value.squeeze(0), slopes.squeeze(0)


@pytest.mark.parametrize("count", range(1, 7))
def test_the_value_is_the_largest_over_all_orders(count):
    """The Choquet integral of a submodular function, from its definition."""
    generator = torch.Generator().manual_seed(count)
    for k in range(8):
        errors = torch.rand(count, generator=generator, dtype=torch.float64)
        if k % 2:
            errors = (errors * 3).round() / 3  # ties
        is_label = torch.rand(count, generator=generator) < 0.5
        value, slopes = evaluated(errors, is_label)
        assert value.item() == pytest.approx(oracle.largest_over_orders(errors, is_label))
        assert (errors @ slopes).item() == pytest.approx(value.item())


def test_vertices_are_the_jaccard_loss():
    """Where predictions are hard the extension is the set function itself."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        mispredicted, is_label = (torch.rand(2, 9, generator=generator) < 0.4).unbind(0)
        value, _ = evaluated(mispredicted.double(), is_label)
        assert value.item() == pytest.approx(oracle.jaccard_loss(mispredicted, is_label).item())


def test_it_is_convex_in_the_errors():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        one, other = torch.rand(2, 12, generator=generator, dtype=torch.float64).unbind(0)
        is_label = torch.rand(12, generator=generator) < 0.4
        (at_one, slopes), (at_other, _) = evaluated(one, is_label), evaluated(other, is_label)
        middle, _ = evaluated((one + other) / 2, is_label)
        assert middle <= (at_one + at_other) / 2 + 1e-12
        assert at_other >= at_one + slopes @ (other - one) - 1e-12  # a sub-gradient


def test_slopes_at_ties_are_a_subgradient_and_equal_where_pixels_are():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        errors = torch.randint(0, 3, (10,), generator=generator).double() / 2
        is_label = torch.rand(10, generator=generator) < 0.5
        value, slopes = evaluated(errors, is_label)
        other = torch.rand(10, generator=generator, dtype=torch.float64)
        at_other, _ = evaluated(other, is_label)
        assert at_other >= value + slopes @ (other - errors) - 1e-12
        key = 2 * errors + 10 * is_label
        for k in key.unique():
            assert len(slopes[key == k].unique()) == 1


def test_order_of_the_pixels_does_not_matter(way):
    logits, target = drawn((1, 3, 40), torch.float64)
    logits = logits.round()  # ties
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    loss, gradient = step(functional.lovasz_softmax_loss, logits, target)
    same, moved = step(functional.lovasz_softmax_loss, logits[..., order], target[..., order])
    torch.testing.assert_close(same, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(moved, gradient[..., order], rtol=1e-9, atol=1e-15)


# ---- the softmax loss ----------------------------------------------------------------------------

SHAPES = [(7, 3), (3, 4, 50), (2, 5, 9, 11), (2, 3, 4, 5, 6), (1, 2, 1, 1), (2, 19, 64, 40)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("per_image", [False, True])
def test_shapes(shape, per_image, way):
    assert_right(*drawn(shape, torch.float64, ignored=0.1), per_image=per_image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_dtypes(dtype, labels, way):
    assert_right(*drawn((2, 6, 13, 17), dtype, labels))


OPTIONS = {
    "all classes": {"classes": "all"},
    "a list": {"classes": [1, 4]},
    "all of each image": {"classes": "all", "per_image": True},
    "a list of each image": {"classes": [0, 3], "per_image": True},
    "nothing ignored": {"ignore_index": None},
    "label 2 ignored": {"ignore_index": 2},
    "weights": {"class_weights": [0.5, 0.0, 2.0, 1.0, 3.0, 1.0]},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_options(name, masked, way):
    logits, target = drawn((3, 6, 7, 9))
    target[target == 5] = 0  # a class is absent
    target[1] = 3
    mask = drawn_mask(target) if masked else None
    assert_right(logits, target, mask, **OPTIONS[name])


def test_classes_as_flags(way):
    logits, target = drawn((2, 4, 30))
    flags = torch.tensor([True, False, False, True])
    found = step(jml.LovaszSoftmaxLoss(classes=flags), logits, target)
    same = step(jml.LovaszSoftmaxLoss(classes=[0, 3]), logits, target)
    assert torch.equal(found[0], same[0])
    assert torch.equal(found[1], same[1])
    with pytest.raises(ValueError, match=r"classes has shape \(4,\): expected \(5,\)"):
        jml.LovaszSoftmaxLoss(classes=flags)(*drawn((2, 5, 30)))


@pytest.mark.parametrize(
    ("mode", "low", "full"),
    [
        ("linear", (5,), (17,)),
        ("bilinear", (4, 5), (9, 20)),
        ("bilinear", (4, 5), (4, 5)),
        ("trilinear", (2, 3, 4), (3, 6, 4)),
    ],
)
@pytest.mark.parametrize("align_corners", [False, True])
def test_upsample(mode, low, full, align_corners, way):
    logits, _ = drawn((2, 4, *low), torch.float64)
    _, target = drawn((2, 4, *full), ignored=0.1)
    options = {"upsample": mode, "align_corners": align_corners}
    assert_right(logits, target, drawn_mask(target), **options)


def test_weights_may_have_a_gradient(way):
    logits, target = drawn((2, 4, 30), torch.float64)
    weights = torch.ones(4, requires_grad=True)
    loss = functional.lovasz_softmax_loss(logits, target, class_weights=weights)
    loss.backward()
    torch.testing.assert_close(weights.grad.sum().double(), loss.detach(), rtol=1e-6, atol=0)


LAYOUTS = {
    "channels_last": lambda z: z.contiguous(memory_format=torch.channels_last),
    "cropped": lambda z: torch.nn.functional.pad(z, (1, 2, 3, 1))[..., 3:-1, 1:-2],
    "transposed": lambda z: z.transpose(2, 3).contiguous().transpose(2, 3),
    "stepped": lambda z: z.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda z: z[:1].expand(z.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(layout, way):
    logits, target = drawn((2, 5, 12, 14), ignored=0.1)
    logits = LAYOUTS[layout](logits)
    stepped = target.repeat_interleave(2, -1)[..., ::2]
    # Of one image there are no ties where it is expanded to two.
    assert_right(logits, stepped, per_image=layout == "expanded")


def test_confident_predictions(way):
    """Most errors are 0 or nearly so, and many are equal."""
    logits, target = drawn((2, 5, 30, 30), scale=0.3)
    logits = logits + 60 * torch.nn.functional.one_hot(target, 5).movedim(-1, 1)
    logits[:, :, :3] *= -1
    assert_right(logits, target)


@pytest.mark.parametrize("per_image", [False, True])
def test_nothing_counts(per_image, way):
    logits, target = drawn((2, 3, 4, 5))
    for z, y in [
        (logits, torch.full_like(target, -100)),
        (logits[:0], target[:0]),
        (logits[..., :0], target[..., :0]),
    ]:
        loss, gradient = step(functional.lovasz_softmax_loss, z, y, per_image=per_image)
        assert loss == 0
        assert (gradient == 0).all()


def test_an_ignored_pixel_may_hold_anything(way):
    logits, target = drawn((2, 3, 4, 5))
    target[0, 1, 2] = -100
    expected = step(functional.lovasz_softmax_loss, logits, target)
    logits[0, 1, 1, 2] = torch.nan
    found = step(functional.lovasz_softmax_loss, logits, target)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers(bad, way):
    logits, target = drawn((2, 3, 4, 5))
    logits[1, 2, 3, 4] = bad
    assert functional.lovasz_softmax_loss(logits, target).isnan()


def test_gradcheck(way):
    """Away from ties, which random numbers do not have."""
    logits, target = drawn((2, 4, 3, 5), torch.float64, ignored=0.1)
    weights = [1.0, 2.0, 0.5, 1.0]
    for options in ({}, {"per_image": True, "class_weights": weights}, {"classes": "all"}):
        loss = jml.LovaszSoftmaxLoss(**options)
        assert torch.autograd.gradcheck(lambda z, f=loss: f(z, target), logits.requires_grad_())


def test_second_derivatives(way):
    logits, target = drawn((2, 3, 4), torch.float64)
    logits.requires_grad_()
    if way == "reference":
        loss = functional.lovasz_softmax_loss
        assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)
        return
    loss = functional.lovasz_softmax_loss(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="not differentiable"):
        gradient.sum().backward()


def test_two_backwards(way):
    """What the first one may have used up is there for the second."""
    logits, target = drawn((2, 3, 8, 8))
    logits.requires_grad_()
    loss = functional.lovasz_softmax_loss(logits, target)
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(3 * loss, logits)
    assert torch.equal(first, kept)
    torch.testing.assert_close(second, 3 * first, rtol=1e-5, atol=1e-9)


def test_func_grad(way):
    logits, target = drawn((2, 3, 8, 8))
    _, expected = step(functional.lovasz_softmax_loss, logits, target)
    found = torch.func.grad(lambda z: functional.lovasz_softmax_loss(z, target))(logits)
    torch.testing.assert_close(found, expected)


# ---- the hinge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 1), (3, 1, 50), (2, 1, 9, 11), (2, 1, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("per_image", [False, True])
def test_hinge(shape, per_image, way):
    logits, target = drawn(shape, ignored=0.1)
    hinge = functional.lovasz_hinge_loss
    assert_right(logits, target, loss=hinge, per_image=per_image)
    assert_right(logits, target, drawn_mask(target), loss=hinge)
    same = hinge(logits, target.unsqueeze(1))
    assert torch.equal(same, jml.LovaszHingeLoss()(logits, target))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_hinge_dtypes(dtype, way):
    assert_right(*drawn((2, 1, 20, 10), dtype), loss=functional.lovasz_hinge_loss)


def test_hinge_without_label_1(way):
    """It is then the largest error alone."""
    logits, target = drawn((2, 1, 40), torch.float64)
    loss, gradient = step(functional.lovasz_hinge_loss, logits, torch.zeros_like(target))
    assert loss.item() == pytest.approx(1 + logits.max().item())
    assert torch.equal(gradient != 0, logits == logits.max())


def test_hinge_gradcheck(way):
    logits, target = drawn((2, 1, 4, 5), torch.float64, ignored=0.1)
    logits.requires_grad_()
    loss = jml.LovaszHingeLoss(per_image=True)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)


def test_hinge_upsample(way):
    logits, _ = drawn((2, 1, 4, 5))
    _, target = drawn((2, 1, 8, 15))
    full = torch.nn.functional.interpolate(logits, (8, 15), mode="bilinear")
    found = functional.lovasz_hinge_loss(logits, target, upsample="bilinear")
    torch.testing.assert_close(found, functional.lovasz_hinge_loss(full, target))


def test_hinge_of_what_is_no_number(way):
    logits, target = drawn((2, 1, 20))
    logits[1, 0, 3] = torch.nan
    assert functional.lovasz_hinge_loss(logits, target).isnan()


# ---- torch.compile and operators -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), {"per_image": True, "classes": "all"}],
    ids=str,
)
def test_compiled_equals_eager(options, way):
    torch._dynamo.reset()
    logits, target = drawn((2, 4, 6, 7), ignored=0.1)
    module = jml.LovaszSoftmaxLoss(**options)
    graph = torch.compile(module, fullgraph=True, backend="aot_eager")
    found, expected = step(graph, logits, target), step(module, logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_compiled_hinge(way):
    torch._dynamo.reset()
    logits, target = drawn((2, 1, 6, 7), ignored=0.1)
    module = jml.LovaszHingeLoss()
    graph = torch.compile(module, fullgraph=True, backend="aot_eager")
    found, expected = step(graph, logits, target), step(module, logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", WAYS[1:])
@pytest.mark.parametrize("with_slopes", [False, True])
def test_opcheck(name, with_slopes):
    for dtype in (torch.float32, torch.bfloat16):
        logits, target = drawn((2, 4, 6, 7), dtype, ignored=0.1)
        tensors = (logits.requires_grad_(with_slopes), target, drawn_mask(target))
        options = (-100, [0, 1, 2, 3], True, False, False)
        forward = getattr(torch.ops.jml_kernels, f"{name}_lovasz").default
        torch.library.opcheck(forward, (*tensors, *options, with_slopes, False))
        _, _, slopes = forward(*tensors, *options, True, False)
        backward = getattr(torch.ops.jml_kernels, f"{name}_lovasz_backward").default
        grad_values = torch.ones(1, 4, dtype=torch.float64)
        arguments = (grad_values, slopes, logits.detach(), *tensors[1:], *options)
        torch.library.opcheck(backward, arguments)


# ---- bad input -----------------------------------------------------------------------------------


def raises(error, *parts):
    return pytest.raises(error, match=".*".join(re.escape(part) for part in parts))


def test_soft_labels(way):
    logits, target = drawn((2, 3, 4, 5))
    with raises(ValueError, "target has shape (2, 3, 4, 5)", "JaccardMetricLoss"):
        jml.LovaszSoftmaxLoss()(logits, logits.softmax(1))
    with raises(ValueError, "JaccardMetricLoss"):
        jml.LovaszHingeLoss()(logits[:, :1], logits[:, :1].sigmoid())
    with raises(ValueError, "torch.float32", "target.long()"):
        jml.LovaszSoftmaxLoss()(logits, target.float())


def test_one_hot_integers(way):
    logits, target = drawn((2, 3, 4, 5))
    one_hot = torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
    loss = jml.LovaszSoftmaxLoss()
    assert torch.equal(loss(logits, one_hot), loss(logits, target))


def test_a_label_out_of_range(way):
    logits, target = drawn((2, 3, 4, 5))
    target[1, 2, 3] = 7
    with raises(IndexError, "target has label 7 at position (1, 2, 3)", "[0, 3)", "-100"):
        jml.LovaszSoftmaxLoss()(logits, target)
    with raises(IndexError, "target has label 7 at position (1, 2, 3)", "[0, 2)"):
        jml.LovaszHingeLoss()(logits[:, :1], target.clamp(0, 1).masked_fill(target == 7, 7))
    target[1, 2, 3] = -1
    with raises(IndexError, "target has label -1"):
        jml.LovaszSoftmaxLoss(ignore_index=None)(logits, target)


@pytest.mark.parametrize(
    ("error", "parts", "options"),
    [
        (TypeError, ["'per_imag'", "did you mean 'per_image'"], {"per_imag": True}),
        (TypeError, ["'label_smoothing'", "expected"], {"label_smoothing": 0.1}),
        (TypeError, ["per_image=1: expected True or False"], {"per_image": 1}),
        (ValueError, ["classes='some'", "'present', 'all'"], {"classes": "some"}),
        (ValueError, ["classes=None", "'present', 'all'"], {"classes": None}),
        (ValueError, ["classes=[]"], {"classes": []}),
        (TypeError, ["ignore_index='x'"], {"ignore_index": "x"}),
        (ValueError, ["upsample='bicubic'"], {"upsample": "bicubic"}),
        (ValueError, ["backend='gpu'"], {"backend": "gpu"}),
        (ValueError, ["class_weights[1]=-1.0"], {"class_weights": [1.0, -1.0, 0.0]}),
    ],
)
def test_options_are_checked(error, parts, options):
    with raises(error, *parts):
        jml.LovaszSoftmaxLoss(**options)


def test_tensors_are_checked(way):
    logits, target = drawn((2, 3, 4, 5))
    loss = jml.LovaszSoftmaxLoss()
    with raises(ValueError, "at least two classes"):
        loss(logits[:, :1], target)
    with raises(ValueError, "expected one class", "LovaszSoftmaxLoss"):
        jml.LovaszHingeLoss()(logits, target.clamp(0, 1))
    with raises(ValueError, "target.squeeze(1)"):
        loss(logits, target.unsqueeze(1))
    with raises(ValueError, "upsample='bilinear'"):
        loss(logits, torch.zeros(2, 8, 10, dtype=torch.int64))
    with raises(TypeError, "mask has dtype"):
        loss(logits, target, target)
    with raises(ValueError, "class_weights has shape (2,)"):
        jml.LovaszSoftmaxLoss(class_weights=[1.0, 2.0])(logits, target)
    with raises(ValueError, "indices below 3"):
        jml.LovaszSoftmaxLoss(classes=[5])(logits, target)


def test_a_backend_without_kernels_of_it():
    logits, target = drawn((2, 3, 4, 5))
    with pytest.raises(RuntimeError, match="cannot run here"):
        jml.LovaszSoftmaxLoss(backend="cuda")(logits, target)


def test_accumulate_refuses_it():
    logits, target = drawn((2, 3, 4, 5))
    with raises(RuntimeError, "Lovász", "formula of sums"):
        jml.accumulate(jml.LovaszSoftmaxLoss(), lambda z: z, [(logits, target)])


def test_deep_supervision(way):
    logits, target = drawn((2, 3, 8, 8))
    heads = [logits, logits[..., ::2, ::2].contiguous()]
    loss = jml.DeepSupervision(jml.LovaszSoftmaxLoss(upsample="bilinear"))
    full = jml.LovaszSoftmaxLoss(upsample="bilinear")
    expected = 2 / 3 * full(heads[0], target) + full(heads[1], target) / 3
    torch.testing.assert_close(loss(heads, target), expected)


def test_repr_is_what_was_given():
    loss = jml.LovaszSoftmaxLoss(classes="all", per_image=True, class_weights=[1, 2])
    assert repr(loss) == (
        "LovaszSoftmaxLoss(per_image=True, classes='all', class_weights=[1.0, 2.0])"
    )
    assert repr(jml.LovaszHingeLoss()) == "LovaszHingeLoss()"


# ---- the CPU kernels -----------------------------------------------------------------------------


@cpu_kernels
@pytest.mark.parametrize(
    ("shape", "dtype", "per_image"),
    [
        ((3, 4, 300, 301), torch.float32, False),  # a class is shared by all threads
        ((2, 3, 400, 400), torch.float64, True),
        ((90, 5, 40, 50), torch.float32, False),  # more images than pieces
        ((3, 3, 500), torch.float32, False),  # a little more than is sorted at once
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [0.01, 2.0, 20.0])
def test_many_pixels(shape, dtype, per_image, scale):
    """Buckets of every size: of all pixels, of some, of few."""
    logits, target = drawn(shape, dtype, ignored=0.05, scale=scale)
    logits, target = logits[..., :-1], target[..., :-1]
    assert_right(logits, target, per_image=per_image, backend="cpu")


@cpu_kernels
@pytest.mark.parametrize("shape", [(2, 5, 256, 300), (40, 3, 20, 20), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("per_image", [False, True])
def test_threads_do_not_change_bits(shape, per_image, threads):
    logits, target = drawn(shape, ignored=0.1)
    logits = (logits * 8).round() / 8  # ties
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(step(functional.lovasz_softmax_loss, logits, target, per_image=per_image))
    for loss, gradient in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert torch.equal(gradient, found[0][1])


@cpu_kernels
@pytest.mark.slow
def test_instruction_sets_agree(tmp_path):
    """Each in a process of its own, since it is chosen once."""
    logits, target = drawn((2, 5, 40, 70), ignored=0.1)
    torch.save((logits, target), tmp_path / "drawn.pt")
    loss, gradient = step(oracle.softmax_loss, logits.double(), target)
    for name in ("baseline", "avx2", "avx512"):
        done = subprocess.run(
            [sys.executable, "-c", INSTRUCTION_SET, str(tmp_path)],
            env=os.environ | {"JML_CPU_ISA": name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert_same(torch.load(tmp_path / "found.pt"), (loss, gradient), torch.float32)


INSTRUCTION_SET = """
import sys
from pathlib import Path
import torch
import jml_kernels as jml

folder = Path(sys.argv[1])
logits, target = torch.load(folder / "drawn.pt")
loss = jml.LovaszSoftmaxLoss(backend="cpu")(logits.requires_grad_(), target)
loss.backward()
torch.save((loss.detach(), logits.grad), folder / "found.pt")
"""


@cpu_kernels
@pytest.mark.parametrize("per_image", [False, True])
def test_memory(per_image):
    """The gaps become slopes, and those the gradient, in one tensor of the logits' size."""
    logits, target = drawn((2, 19, 128, 128))
    logits.requires_grad_()
    loss = jml.LovaszSoftmaxLoss(per_image=per_image, backend="cpu")
    loss(logits, target).backward()
    logits.grad = None
    gradient = logits.numel() * logits.element_size()
    assert peak_memory(lambda: loss(logits, target)) <= gradient + MEBIBYTE
    assert peak_memory(lambda: loss(logits, target).backward()) <= gradient + MEBIBYTE


@cpu_kernels
def test_memory_of_logits_of_lower_resolution():
    """A few tensors of one class at full size, however many classes there are."""
    peaks = []
    for classes in (4, 16):
        logits, _ = drawn((1, classes, 16, 16))
        _, target = drawn((1, classes, 256, 256))
        loss = jml.LovaszSoftmaxLoss(upsample="bilinear", backend="cpu")
        logits.requires_grad_()
        peaks.append(peak_memory(lambda f=loss, z=logits, y=target: f(z, y).backward()))
    assert peaks[1] <= peaks[0] + MEBIBYTE / 8


RESIDENT = """
from pathlib import Path
import torch
import jml_kernels as jml

def resident(name):  # KiB: VmRSS now, VmHWM the most since clear_refs
    (line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if name in l]
    return int(line.split()[1])

torch.set_num_threads(2)
loss = jml.LovaszSoftmaxLoss(backend="cpu")

def step(logits, target):
    return torch.autograd.grad(loss(logits, target), logits)

def inputs(size):
    return torch.randn(2, 24, size, size).requires_grad_(), torch.randint(0, 24, (2, size, size))

step(*inputs(64))
arguments = inputs(640)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
gradient = step(*arguments)
print(1024 * (resident("VmHWM") - before), gradient[0].numel() * 4)
"""


@cpu_kernels
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts this")
@pytest.mark.slow
def test_resident_set():
    """Beside the gradient the items of the classes at work, 8 bytes for each pixel, which are no
    more than half of it, and counts of buckets."""
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown, gradient = map(int, done.stdout.split())
    assert gradient <= grown <= 1.5 * gradient + 4 * MEBIBYTE
