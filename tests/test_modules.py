"""Modules and functions: defaults, state, the gradient in place of the logits."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re

import numpy as np
import pytest
import torch
from parametrize import named
from torch import nn

import jml_kernels as jml
from jml_kernels import functional
from jml_kernels.accuracy import made_by_an_operation
from jml_kernels.options import LossOptions
from jml_kernels.selfcheck.corpus import BY_NAME
from jml_kernels.selfcheck.corpus.drawing import draw, shared
from jml_kernels.selfcheck.corpus.losses import OVERLAPS

pytestmark = pytest.mark.usefixtures("one_thread")

MODULES = {
    "JaccardMetricLoss": (jml.JaccardMetricLoss, functional.jaccard_metric_loss, {}),
    "SoftJaccardLoss": (jml.SoftJaccardLoss, functional.soft_jaccard_loss, {}),
    "DiceSemimetricLoss": (jml.DiceSemimetricLoss, functional.dice_semimetric_loss, {}),
    "SoftDiceLoss": (jml.SoftDiceLoss, functional.soft_dice_loss, {}),
    "TverskyMetricLoss": (
        jml.TverskyMetricLoss,
        functional.tversky_metric_loss,
        {"alpha": 0.3, "beta": 0.7},
    ),
}
modules = pytest.mark.parametrize("name", MODULES)

#: Section 3 of the design.
DEFAULTS = {
    "label_smoothing": 0.0,
    "boundary_size": None,
    "active_classes": "label",
    "active_threshold": 0.01,
    "aggregation": "dataset",
    "ignore_index": -100,
    "smooth": 0.0,
    "log_loss": False,
    "activation": "softmax",
    "inplace_backward": False,
    "backend": "auto",
}


def make(name: str, **options) -> nn.Module:
    module, _, required = MODULES[name]
    return module(**required, **options)


def inputs(n_classes: int = 5):
    logits, target, *_ = shared(BY_NAME["float32"])
    return logits[:, :n_classes], target.clamp(max=n_classes - 1)


# ---- construction --------------------------------------------------------------------------------


@modules
def test_defaults(name):
    loss = make(name)
    assert {option: getattr(loss.options, option) for option in DEFAULTS} == DEFAULTS
    assert loss.class_weights is None
    half = name.startswith(("Dice", "SoftDice"))
    tversky = name == "TverskyMetricLoss"
    assert (loss.options.alpha, loss.options.beta) == (
        (0.3, 0.7) if tversky else (0.5, 0.5) if half else (1.0, 1.0)
    )
    assert loss.options.gamma == 1.0
    assert loss.objective.overlap == ("soft1" if name.startswith("Soft") else "metric1")


@modules
def test_every_default_is_what_leaving_it_out_means(name):
    logits, target = inputs()
    assert make(name, **DEFAULTS)(logits, target) == make(name)(logits, target)


@modules
def test_options_are_keyword_only(name):
    module, _, required = MODULES[name]
    with pytest.raises(TypeError, match="positional argument"):
        module(*required.values(), 1)


def test_alpha_and_beta_are_required():
    with pytest.raises(TypeError, match="alpha"):
        jml.TverskyMetricLoss()
    assert jml.TverskyMetricLoss(0.3, 0.7).options.beta == 0.7


@modules
@pytest.mark.parametrize("which", [1, 2])
def test_variant_or_norm(name, which):
    parameter = "norm" if name.startswith("Soft") else "variant"
    loss = make(name, **{parameter: which})
    assert loss.objective.overlap.endswith(str(which))
    other = "variant" if parameter == "norm" else "norm"
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{other}'"):
        make(name, **{other: which})


@modules
def test_functions_equal_modules(name):
    _, function, required = MODULES[name]
    logits, target = inputs()
    options = {
        **required,
        "label_smoothing": 0.1,
        "aggregation": {"image": 0.5, "class": 1.0},
        "active_classes": "all",
        "class_weights": torch.rand(5),
        "smooth": 0.5,
    }
    mask = torch.rand(target.shape) < 0.8
    module = MODULES[name][0](**options)
    assert function(logits, target, mask, **options) == module(logits, target, mask)
    assert function(logits, target, mask=mask, **options) == module(logits, target, mask=mask)


NUMBERS = {
    "label_smoothing": (0.125, np.float32),
    "boundary_size": (3, np.int32),
    "ignore_index": (2, np.int64),
    "active_threshold": (0.25, np.float16),
    "gamma": (2.0, np.float64),
    "smooth": ((0.5, 1.0), lambda pair: [np.float32(s) for s in pair]),
    "inactive_loss": (0.5, np.float32),
    "classes": ((0, 2), np.array),
    "class_weights": ([1.0, 2.0, 0.5, 0.0, 4.0], np.array),
    "log_loss": (True, np.bool_),
    "weighted_mean": (True, np.bool_),
    "aggregation": ({"image": 0.5}, lambda mix: {k: np.float32(v) for k, v in mix.items()}),
}


@modules
def test_numbers_of_numpy(name):
    """They are kept as Python's, which the operators take."""
    logits, target = inputs()
    plain = {option: value for option, (value, _) in NUMBERS.items()}
    of_numpy = {option: convert(value) for option, (value, convert) in NUMBERS.items()}
    parameter = "norm" if name.startswith("Soft") else "variant"
    expected, loss = (
        make(name, **{parameter: 2}, **plain),
        make(name, **{parameter: np.int64(2)}, **of_numpy),
    )
    assert repr(loss) == repr(expected)
    assert loss(logits, target) == expected(logits, target)
    function, required = MODULES[name][1:]
    assert function(logits, target, **{parameter: np.int64(2)}, **required, **of_numpy) == expected(
        logits, target
    )


def test_options_are_kept_as_they_were_given():
    """Whoever gave a mapping, a list or a tensor may change it afterwards."""
    logits, target = inputs()
    aggregation, classes, indices = {"image": 1.0}, torch.arange(5) > 1, [2, 3, 4]
    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    losses = [
        jml.JaccardMetricLoss(aggregation=aggregation, class_weights=weights, classes=of)
        for of in (classes, indices)
    ]
    before = [(repr(loss), loss(logits, target)) for loss in losses]
    aggregation["class"] = -5.0
    classes[:2], weights[2] = True, 100.0
    indices.append(0)
    assert [(repr(loss), loss(logits, target)) for loss in losses] == before
    assert before[0][1] == before[1][1]


def test_public_names():
    for name in jml.__all__:
        assert hasattr(jml, name), name
    assert set(MODULES) <= set(jml.__all__)
    for name in (
        "class_statistics", "ClassStatistics", "boundary_mask", "smooth_labels",
        "active_classes", "backends",
    ):  # fmt: skip
        assert name in jml.__all__


@modules
def test_options_are_listed(name):
    """help() shows every option with its default, and says what it does."""
    module, function, _ = MODULES[name]
    fixed = {"alpha", "beta"} if "Dice" in name else set()
    for one in (module, function):
        parameters = inspect.signature(one).parameters
        assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
        for field in dataclasses.fields(LossOptions):
            assert (field.name in parameters) == (field.name not in fixed)
            described = re.search(rf"^ +(\w+, )*{field.name}(, \w+)*:", inspect.getdoc(one), re.M)
            assert bool(described) == (field.name not in fixed), field.name
        assert parameters["label_smoothing"].default == 0.0


@modules
@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("lable_smoothing", "label_smoothing"), ("class_weight", "class_weights")],
)
def test_a_misspelt_option_is_answered_with_the_nearest(name, misspelt, meant):
    with pytest.raises(TypeError, match=f"'{misspelt}': did you mean '{meant}'"):
        make(name, **{misspelt: 0.1})


@modules
def test_every_public_thing_is_documented(name):
    module, function, _ = MODULES[name]
    assert inspect.getdoc(module) != inspect.getdoc(nn.Module)
    assert inspect.getdoc(function)


# ---- repr, state, copies -------------------------------------------------------------------------


@modules
def test_repr_shows_what_is_not_a_default(name):
    loss = make(name, label_smoothing=0.1, boundary_size=5)
    assert repr(loss).startswith(f"{name}(")
    assert "label_smoothing=0.1" in repr(loss)
    assert "boundary_size=5" in repr(loss)
    assert "ignore_index" not in repr(loss)
    assert repr(loss) in repr(nn.Sequential(loss))


@modules
def test_repr_is_a_call_of_the_constructor(name):
    loss = make(name, gamma=2.0, classes=[0, 2], class_weights=[1.0, 2.0, 3.0], smooth=(0.0, 1.0))
    again = eval(f"jml.{loss!r}")
    assert repr(again) == repr(loss)
    logits, target = inputs(3)
    assert again(logits, target) == loss(logits, target)


@modules
def test_class_weights_are_a_buffer(name):
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    loss = make(name, class_weights=weights)
    assert list(loss.state_dict()) == ["class_weights"]
    assert list(loss.parameters()) == []
    assert loss.to(torch.float64).class_weights.dtype == torch.float64
    assert loss.to("meta").class_weights.device.type == "meta"

    other = make(name, class_weights=torch.zeros(5))
    other.load_state_dict(make(name, class_weights=weights).state_dict())
    assert torch.equal(other.class_weights, weights)
    assert list(make(name).state_dict()) == []


@modules
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(name, copied):
    logits, target = inputs()
    loss = make(name, class_weights=torch.rand(5), aggregation={"image": 1.0}, smooth=0.5)
    again = copied(loss)
    assert again(logits, target) == loss(logits, target)
    assert again.class_weights.data_ptr() != loss.class_weights.data_ptr()
    assert repr(again) == repr(loss)


@modules
def test_train_and_eval_are_the_same(name):
    logits, target = inputs()
    loss = make(name)
    assert loss.train()(logits, target) == loss.eval()(logits, target)


def test_inputs_are_left_as_they_were(backend):
    logits, target, _, mask = shared(BY_NAME["mask and ignored"])
    before = logits.clone(), target.clone(), mask.clone()
    leaf = logits.detach().requires_grad_()
    jml.JaccardMetricLoss(label_smoothing=0.1, boundary_size=3, backend=backend)(
        leaf, target, mask
    ).backward()
    for tensor, old in zip((logits, target, mask), before, strict=True):
        assert torch.equal(tensor, old)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_is_at_least_float32(dtype, backend):
    logits, target = inputs()
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert jml.JaccardMetricLoss(backend=backend)(logits.to(dtype), target).dtype == expected
    statistics = jml.class_statistics(logits.to(dtype), target, backend=backend)
    assert statistics.true_positive.dtype == expected
    assert statistics.present.dtype == torch.bool


# ---- inplace_backward ----------------------------------------------------------------------------


@named(
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "layout channels_last",
    "layout cropped",
    "layout stepped",
    "several tiles",
    "soft, tiles",
    "mask and ignored",
    "multi-label, masked",
    "boundary, tiles",
    "0 images",
    "all ignored",
    "nan, masked",
)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_inplace_gradient_is_the_same(case, overlap, compiled):
    logits, target, _, mask = draw(case)
    logits.requires_grad_()
    options = {**case.options, "backend": compiled}
    loss = OVERLAPS[overlap](logits, target, mask, **options)
    (expected,) = torch.autograd.grad(loss, logits)
    assert expected.numel() == 0 or expected.data_ptr() != logits.data_ptr()

    made = made_by_an_operation(draw(case).logits)
    loss = OVERLAPS[overlap](made, target, mask, inplace_backward=True, **options)
    (gradient,) = torch.autograd.grad(loss, made)
    assert gradient.data_ptr() == made.data_ptr()
    assert gradient.stride() == made.stride()
    assert torch.equal(gradient, expected)


def test_inplace_gradient_reaches_the_layers_below(compiled):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3)
    image, target = torch.randn(2, 3, 8, 9), torch.randint(0, 5, (2, 6, 7))
    gradients = []
    for inplace in (False, True):
        layer.zero_grad()
        loss = jml.JaccardMetricLoss(inplace_backward=inplace, backend=compiled)
        loss(layer(image), target).backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for with_copy, in_place in zip(*gradients, strict=True):
        assert torch.equal(with_copy, in_place)


@pytest.mark.parametrize("operation", [torch.exp, torch.sigmoid, lambda t: torch.softmax(t, 1)])
def test_autograd_notices_that_another_operation_saved_the_logits(operation, compiled):
    """These save their output: without a new version its backward would silently use gradients."""
    logits, target = inputs()
    outputs = operation(logits.clone().requires_grad_())
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)(outputs, target)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_autograd_notices_a_view_that_was_saved(compiled):
    """Versions are shared by all views of a storage."""
    logits, target = inputs()
    outputs = torch.exp(logits.clone().requires_grad_())
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss(outputs[:, :, 1:], target[:, 1:]).backward()


def test_a_second_loss_on_the_same_logits(compiled):
    """The later loss goes backward first. Where that is the one in place, the other would read
    gradients in place of logits: refused. The other way round is right."""
    logits, target = inputs()
    for inplace_is_later in (True, False):
        losses = [
            jml.JaccardMetricLoss(inplace_backward=not inplace_is_later, backend=compiled),
            jml.SoftJaccardLoss(norm=2, inplace_backward=inplace_is_later, backend=compiled),
        ]
        leaf = logits.clone().requires_grad_()
        outputs = leaf * 1
        total = losses[0](outputs, target) + losses[1](outputs, target)
        if inplace_is_later:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                total.backward()
            continue
        total.backward()
        again = logits.clone().requires_grad_()
        expected = jml.JaccardMetricLoss(backend=compiled)(again, target)
        (expected + jml.SoftJaccardLoss(norm=2, backend=compiled)(again, target)).backward()
        torch.testing.assert_close(leaf.grad, again.grad)


def test_a_second_backward_is_refused(compiled):
    logits, target = inputs()
    leaf = logits.clone().requires_grad_()
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)(leaf * 1, target)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_backward_without_inplace(compiled):
    logits, target = inputs()
    leaf = logits.clone().requires_grad_()
    loss = jml.JaccardMetricLoss(backend=compiled)(leaf * 1, target)
    loss.backward(retain_graph=True)
    first = leaf.grad.clone()
    loss.backward()
    assert torch.equal(leaf.grad, 2 * first)


@pytest.mark.parametrize("layout", ["layout one image", "layout one pixel"])
def test_inplace_needs_memory_for_every_element(layout, compiled):
    """An expanded tensor has one element for many gradients: refused, not silently wrong."""
    logits, target, *_ = shared(BY_NAME[layout])
    made = (torch.randn(500, requires_grad=True) * 1).as_strided(logits.shape, logits.stride())
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)
    with pytest.raises(RuntimeError, match=r"inplace_backward.*memory of their own"):
        loss(made, target)


@pytest.mark.parametrize(
    "view", [lambda z: z, lambda z: z[None][0], lambda z: z.view(2, 5, -1), lambda z: z[:, :, 1:]]
)
def test_inplace_refuses_a_leaf(view, compiled):
    """Its values, which an optimiser needs, would become the gradient's."""
    leaf = torch.randn(2, 5, 6, requires_grad=True)
    logits = view(leaf)
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)
    target = torch.randint(0, 5, (2, logits.shape[2]))
    with pytest.raises(RuntimeError, match="leaf that requires grad"):
        loss(logits, target)
    with torch.no_grad():  # nothing will be written
        assert loss(logits, target).isfinite()


@pytest.mark.parametrize("view", [lambda z: z, lambda z: z[None][0]])
def test_inplace_refuses_a_leaf_that_is_a_view(view, compiled):
    """As the parameters in a flat buffer are, which requires no grad."""
    buffer = torch.randn(60)
    logits = view(buffer.view(2, 5, 6).requires_grad_())
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)
    with pytest.raises(RuntimeError, match="leaf that requires grad"):
        loss(logits, torch.randint(0, 5, (2, 6)))
    # Nothing is written over a view that requires none.
    assert loss(buffer.view(2, 5, 6), torch.randint(0, 5, (2, 6))).isfinite()


def test_inplace_refuses_memory_that_other_arguments_share(compiled):
    """Windows and shifted batches: what the backward reads of them would be gradients."""
    frames = torch.randn(4, 5, 6, 7, requires_grad=True) * 1
    labels = torch.randint(0, 5, (3, 6, 7))
    loss = jml.JaccardDistillationLoss(inplace_backward=True, backend=compiled)
    with pytest.raises(ValueError, match="share no memory"):
        loss(frames[1:], labels, frames[:-1].detach())
    windows = (torch.randn(1, 5, 8, requires_grad=True) * 1).as_strided((3, 5, 4), (2, 8, 1))
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)
    with pytest.raises(RuntimeError, match="memory of their own"):
        loss(windows, torch.randint(0, 5, (3, 4)))
    # Halves of one batch lie side by side.
    assert loss(frames[:2], labels[:2]).isfinite()


@pytest.mark.parametrize("shape", [(0, 5, 6, 7), (2, 5, 0, 7)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_inplace_takes_no_element_at_all(layout, shape, compiled):
    """Strides of what is empty say nothing."""
    logits = (torch.randn(shape, requires_grad=True) * 1).contiguous(memory_format=layout)
    target = torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
    loss = jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)(logits, target)
    loss.backward()
    assert loss == 0


def test_inplace_without_a_backward_changes_nothing(compiled):
    logits, target = inputs()
    before, version = logits.clone(), logits._version
    jml.JaccardMetricLoss(inplace_backward=True, backend=compiled)(logits, target)
    assert torch.equal(logits, before)
    assert logits._version == version
