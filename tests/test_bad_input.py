"""Bad input: an exception that names the argument, its value and what was expected, before any
kernel runs."""

from __future__ import annotations

import math
import re

import pytest
import torch
from operators import formula_arguments, gradients, operator_arguments

import jml_kernels as jml
from jml_kernels import functional
from jml_kernels.checks import ACTIVE_MODES
from jml_kernels.selfcheck.corpus.losses import OVERLAPS

pytestmark = pytest.mark.usefixtures("one_thread")

LOGITS = torch.zeros(2, 3, 4, 5)
LABELS = torch.zeros(2, 4, 5, dtype=torch.int64)
SOFT = torch.zeros(2, 3, 4, 5)
BITS = torch.zeros(2, 3, 4, 5, dtype=torch.int64)


def call(logits=LOGITS, target=LABELS, mask=None, backend="auto", **options):
    return functional.jaccard_metric_loss(logits, target, mask, backend=backend, **options)


def raises(error, *parts: str):
    """`error` with a message that has these parts, in this order, literally."""
    return pytest.raises(error, match=".*".join(re.escape(part) for part in parts))


# ---- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "parts", "arguments"),
    [
        (TypeError, ["logits is a list", "expected a Tensor"], {"logits": [0.0]}),
        (TypeError, ["logits has dtype torch.int64", "float32"], {"logits": LOGITS.long()}),
        (TypeError, ["logits has dtype torch.complex64"], {"logits": LOGITS.to(torch.complex64)}),
        (
            TypeError,
            ["logits has dtype torch.float8_e4m3fn"],
            {"logits": LOGITS.to(torch.float8_e4m3fn)},
        ),
        (ValueError, ["logits has shape (5,)", "(N, C, *spatial)"], {"logits": LOGITS[0, 0, 0]}),
        (
            ValueError,
            ["logits has shape (1, 1, 2, 3, 4, 5)", "0 to 3 spatial"],
            {"logits": LOGITS[None, None]},
        ),
        (
            ValueError,
            ["logits has shape (2, 0, 4, 5)", "at least one class"],
            {"logits": LOGITS[:, :0]},
        ),
        (TypeError, ["target is a NoneType", "expected a Tensor"], {"target": None}),
        (TypeError, ["target is a list", "expected a Tensor"], {"target": [0]}),
        (ValueError, ["target has shape (1, 4, 5)", "(2, 4, 5)"], {"target": LABELS[:1]}),
        (ValueError, ["target has shape (2, 3, 5)", "(2, 4, 5)"], {"target": LABELS[:, :3]}),
        (ValueError, ["target has shape (4, 5)", "int64", "(2, 4, 5)"], {"target": LABELS[0]}),
        (
            ValueError,
            ["target has the integers", "at position (0, 0, 0)", "one 1", "softmax"],
            {"target": torch.zeros_like(BITS)},
        ),
        (
            ValueError,
            ["target has shape (2, 4, 4, 5)", "probabilities", "(2, 3, 4, 5)"],
            {"target": torch.zeros(2, 4, 4, 5)},
        ),
        (ValueError, ["target has shape (2, 4, 5)", "(2, 3, 4, 5)"], {"target": LABELS.float()}),
        (TypeError, ["target has dtype torch.complex64"], {"target": SOFT.to(torch.complex64)}),
        (
            TypeError,
            ["target has dtype torch.float8_e4m3fn", "float16"],
            {"target": SOFT.to(torch.float8_e4m3fn)},
        ),
        (
            ValueError,
            ["target has shape (2, 4, 4, 5)", "0 and 1", "(2, 3, 4, 5)"],
            {"target": torch.zeros(2, 4, 4, 5, dtype=torch.int64), "activation": "sigmoid"},
        ),
        (ValueError, ["target is on meta", "expected cpu"], {"target": LABELS.to("meta")}),
        (TypeError, ["mask is a list", "expected a Tensor"], {"mask": [True]}),
        (TypeError, ["mask has dtype torch.int64", "torch.bool"], {"mask": LABELS}),
        (TypeError, ["mask has dtype torch.float32", "torch.bool"], {"mask": LABELS.float()}),
        (ValueError, ["mask has shape (2, 3, 4, 5)", "(2, 4, 5)"], {"mask": SOFT > 0}),
        (ValueError, ["mask has shape (2, 4, 4)", "(2, 4, 5)"], {"mask": LABELS[..., :4] > 0}),
        (ValueError, ["mask is on meta", "expected cpu"], {"mask": (LABELS > 0).to("meta")}),
        (
            ValueError,
            ["boundary_size=3", "None", "(2, 3, 4, 5)"],
            {"target": BITS, "activation": "sigmoid", "boundary_size": 3},
        ),
        (TypeError, ["class_weights=1.0", "a tensor", "a list"], {"class_weights": 1.0}),
        (
            ValueError,
            ["class_weights has shape (2,)", "expected (3,)"],
            {"class_weights": torch.ones(2)},
        ),
        (
            ValueError,
            ["class_weights has shape (3, 1)", "expected (3,)"],
            {"class_weights": torch.ones(3, 1)},
        ),
        (
            ValueError,
            ["class_weights is on meta", "expected cpu"],
            {"class_weights": torch.ones(3, device="meta")},
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_tensors(error, parts, arguments, backend):
    with raises(error, *parts):
        call(**arguments, backend=backend)


def test_a_soft_target_that_requires_grad(compiled):
    target = SOFT.clone().requires_grad_()
    with raises(ValueError, "target requires grad", "target.detach()", "backend='reference'"):
        call(target=target, backend=compiled)
    call(target=target.detach(), backend=compiled)


# ---- labels --------------------------------------------------------------------------------------

BAD_LABELS = [
    (value, dtype)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    for value in (3, 100, -1, -128, 2**31 + 1, -(2**40))
    if torch.iinfo(dtype).min <= value <= torch.iinfo(dtype).max
]


@pytest.mark.parametrize(("value", "dtype"), BAD_LABELS, ids=str)
def test_label_out_of_range(value, dtype, backend):
    labels = LABELS.to(dtype, copy=True)
    labels[1, 2, 3] = value
    message = (
        f"target has label {value} at position (1, 2, 3): expected a label in [0, 3) or "
        "ignore_index=-100"
    )
    with raises(IndexError, message):
        call(target=labels, backend=backend)
    for activation in ("sigmoid", "none"):
        with raises(IndexError, message):
            call(target=labels, activation=activation, backend=backend)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_unsigned_label_out_of_range(dtype, backend):
    values = LABELS.clone()
    values[0, 3, 4] = 40_000
    with raises(IndexError, "label 40000 at position (0, 3, 4)"):
        call(target=values.to(dtype), backend=backend)


def test_label_above_the_largest_int64(backend):
    """No label, whatever number it becomes as a signed one."""
    values = LABELS.clone()
    values[0, 0, 1] = -1
    with raises(IndexError, "at position (0, 0, 1)"):
        call(target=values.view(torch.uint64), backend=backend)


def test_a_softmax_over_one_class_is_refused(backend):
    """It is 1 whatever the logit, and trains nothing."""
    for target in (LABELS, SOFT[:, :1]):
        with raises(ValueError, "logits has shape (2, 1, 4, 5)", "activation='sigmoid'"):
            call(LOGITS[:, :1], target, backend=backend)


def test_the_first_bad_label_is_named(backend):
    """Also where threads share the images out, one piece of work has several bad labels, and
    labels are not contiguous."""
    for n in (16, 130):
        for labels in (
            torch.zeros(n, 40, 41, dtype=torch.int64),
            torch.zeros(41, 40, n, dtype=torch.int64).permute(2, 1, 0),
        ):
            labels[n - 1, 39, 40] = 7
            labels[9, 1, 2] = 8
            labels[9, 20, 0] = 9
            with raises(IndexError, "label 8 at position (9, 1, 2)"):
                call(torch.zeros(n, 3, 40, 41), labels, backend=backend)


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 7), (3, 2, 5, 6), (3, 2, 3, 4, 5)], ids=str)
def test_the_position_has_the_labels_dimensions(shape, backend):
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
    position = tuple(size - 1 for size in labels.shape)
    labels[position] = 2
    with raises(IndexError, f"label 2 at position ({', '.join(map(str, position))}):"):
        call(torch.zeros(shape), labels, backend=backend)


def test_a_label_out_of_range_that_ignore_index_names(backend):
    labels = LABELS.clone()
    labels[0, 0, 0] = 255
    assert call(target=labels, ignore_index=255, backend=backend).isfinite()
    with raises(IndexError, "label 255", "ignore_index=254"):
        call(target=labels, ignore_index=254, backend=backend)


def test_the_default_ignore_index_is_a_bad_label_otherwise(backend):
    with raises(IndexError, "label -100 at position (0, 0, 0)", "ignore_index=255"):
        call(target=LABELS - 100, ignore_index=255, backend=backend)


def test_a_bad_label_beside_the_mask(backend):
    """Only masked pixels may hold any label."""
    labels = LABELS.clone()
    labels[0, 0, 0] = labels[1, 3, 4] = 3
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[0, 0, 0] = False
    with raises(IndexError, "label 3 at position (1, 3, 4)"):
        call(target=labels, mask=mask, backend=backend)
    mask[1, 3, 4] = False
    assert call(target=labels, mask=mask, backend=backend).isfinite()


def test_a_bad_label_under_boundary_smoothing(backend):
    labels = LABELS.clone()
    labels[1, 0, 0] = 3
    with raises(IndexError, "label 3 at position (1, 0, 0)"):
        call(target=labels, label_smoothing=0.1, boundary_size=3, backend=backend)


@pytest.mark.parametrize("value", [2, -1])
def test_bits_out_of_range(value, backend):
    bits = BITS.clone()
    bits[1, 2, 0, 4] = value
    with raises(IndexError, f"label {value} at position (1, 2, 0, 4)", "[0, 2)"):
        call(target=bits, activation="sigmoid", backend=backend)
    with raises(IndexError, f"label {value} at position (1, 2, 0, 4)", "[0, 2)"):
        call(target=bits, activation="none", backend=backend)


def test_binary_labels_out_of_range(backend):
    labels = LABELS.clone()
    labels[1, 2, 3] = 2
    with raises(IndexError, "label 2 at position (1, 2, 3)", "[0, 2)"):
        call(LOGITS[:, :1], labels, activation="sigmoid", backend=backend)
    with raises(IndexError, "label 2 at position (1, 2, 3)", "[0, 2)"):
        call(LOGITS[:, :1], labels.unsqueeze(1), activation="sigmoid", backend=backend)


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[("label_smoothing", value, "a number in [0, 1]") for value in (-0.1, 1.1, math.nan)],
        *[("boundary_size", value, "odd positive") for value in (0, 2, 4, -1, 3.0, True, "3")],
        *[("ignore_index", value, "an integer") for value in (2.5, "255", True)],
        *[("activation", value, "'softmax', 'sigmoid', 'none'") for value in ("relu", None)],
        *[("active_classes", value, "'all', 'present', 'label'") for value in ("some", None)],
        *[("aggregation", value, "'dataset', 'image', 'class'") for value in ("mean", None)],
        *[("reduction", value, "'mean', 'sum', 'image', 'none'") for value in ("all", None)],
        *[("backend", value, "'auto', 'cuda', 'triton', 'cpu', 'reference'") for value in ("gpu",)],
        *[
            (name, value, "a finite number >= 0")
            for name in ("alpha", "beta", "smooth")
            for value in (-1, math.inf, math.nan)
        ],
        *[("gamma", value, "a finite number > 0") for value in (0, -1, math.inf, math.nan)],
        *[("active_threshold", value, "a finite number") for value in (math.inf, math.nan)],
        # Not numbers at all.
        *[
            (name, value, "number")
            for name in (
                "label_smoothing", "alpha", "beta", "gamma", "smooth", "active_threshold",
            )
            for value in ("much", None, [0.5])
        ],
        *[("variant", value, "1 or 2") for value in (3, "1", 1.0, True)],
        ("aggregation", {}, "at least one weight"),
        *[
            (name, value, "True or False")
            for name in (
                "log_loss", "weighted_mean", "inplace_backward", "validate", "align_corners",
            )
            for value in ("False", 0, 1.0, None)
        ],
        *[("ignore_index", value, "an integer of 64 bits") for value in (2**63, -(2**63) - 1)],
        ("boundary_size", 2**63 + 1, "odd positive"),
        *[("inactive_loss", value, "a finite number") for value in (math.nan, -math.inf)],
        *[("inactive_loss", value, "a number") for value in ("0", True)],
        *[("smooth", value, "a number, or two of them") for value in ((1.0,), [1.0, 1.0, 1.0])],
        *[("classes", value, "a list of class indices") for value in ("01", 1, {0: 1.0}, b"01")],
        *[("classes", value, "at least one index, and all of them >= 0") for value in ([], [-1])],
        *[("class_weights", value, "a list of numbers") for value in ("111", 1, {0: 1.0, 1: 2.0})],
        ("class_weights", {1.0, 2.0}, "a list of numbers, which a set reorders"),
    ],
    ids=lambda value: repr(value) if not isinstance(value, str) else value,
)  # fmt: skip
def test_options(name, value, expected):
    """As functions and as modules, which refuse when they are made."""
    with raises((TypeError, ValueError), f"{name}={value!r}", "expected", expected):
        call(**{name: value})
    with raises((TypeError, ValueError), f"{name}={value!r}", "expected", expected):
        jml.JaccardMetricLoss(**{name: value})


@pytest.mark.parametrize("name", ["smooth", "gamma", "active_threshold", "inactive_loss"])
def test_numbers_that_no_float_holds(name):
    with raises(ValueError, f"{name}=1000", "a number that float64 holds"):
        call(**{name: 10**400})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("classes", [1.0], "classes[0]=1.0: expected an integer"),
        ("classes", [True, False], "classes[0]=True: expected an integer"),
        ("classes", [2**63], "classes[0]=9223372036854775808: expected an integer of 64 bits"),
        ("classes", torch.tensor([1, 2]), "classes=tensor([1, 2]): expected a list"),
        ("classes", torch.ones(1, 3, dtype=torch.bool), "or a bool tensor of shape (C,)"),
        ("classes", torch.zeros(3, dtype=torch.bool), "expected at least one class that is True"),
        ("smooth", (0.0, math.nan), "smooth[1]=nan: expected a finite number >= 0"),
        ("smooth", (-1.0, 0.0), "smooth[0]=-1.0: expected a finite number >= 0"),
        ("smooth", ("much", 0.0), "smooth[0]='much': expected a number"),
        ("class_weights", [1.0, True, 1.0], "class_weights[1]=True: expected a number"),
        ("class_weights", [1.0, math.inf, 1.0], "class_weights[1]=inf: expected a finite number"),
        ("class_weights", torch.tensor([1, -1, 1]), "class_weights[1]=-1.0: expected a finite"),
        ("class_weights", torch.ones(3) > 0, "class_weights has dtype torch.bool"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_of_several_values(name, value, text):
    """The one that is wrong is named."""
    with raises((TypeError, ValueError), text):
        call(**{name: value})
    with raises((TypeError, ValueError), text):
        jml.JaccardMetricLoss(**{name: value})


@pytest.mark.parametrize("value", [[3], [0, 7], torch.tensor([True, False])], ids=str)
def test_classes_that_the_logits_do_not_have(value, backend):
    with raises(ValueError, "classes", "expected"):
        call(classes=value, backend=backend)


def test_options_that_exclude_each_other():
    with raises(ValueError, "aggregation={'image': 1.0, 'class': 1.0}", "one", "reduction='none'"):
        call(aggregation={"image": 1, "class": 1}, reduction="none")


def test_weights_of_aggregations():
    with raises(ValueError, "aggregation='batch'", "'dataset', 'image', 'class'"):
        call(aggregation={"batch": 1.0})
    with raises(ValueError, "aggregation['image']=-1", "a finite number >= 0"):
        call(aggregation={"image": -1})


def test_norm():
    with raises(ValueError, "norm=3", "expected 1 or 2"):
        jml.SoftJaccardLoss(norm=3)
    with raises(ValueError, "norm=0", "expected 1 or 2"):
        functional.soft_dice_loss(LOGITS, LABELS, norm=0)


@pytest.mark.parametrize("name", ["label_smooth", "weight", "process"])
def test_unknown_option(name):
    for make in (call, jml.JaccardMetricLoss, jml.SoftDiceLoss):
        with raises(TypeError, "unexpected keyword argument", name):
            make(**{name: 1})


def test_the_statistics_take_no_option_of_a_loss():
    with raises(TypeError, "unexpected keyword argument", "smooth"):
        jml.class_statistics(LOGITS, LABELS, smooth=1.0)


def test_a_backend_that_cannot_run_says_why():
    for name, reason in jml.backends().items():
        if reason is not None:
            with raises(RuntimeError, f"backend={name!r} cannot run here", reason):
                call(backend=name)


# ---- the reference pieces ------------------------------------------------------------------------


def test_boundary_mask():
    with raises(TypeError, "labels has dtype torch.float32", "integer"):
        jml.boundary_mask(LABELS.float(), 3)
    with raises(ValueError, "labels has shape (1, 1, 2, 4, 5)", "0 to 3 spatial"):
        jml.boundary_mask(LABELS[None, None], 3)
    with raises(TypeError, "labels is a list", "expected a Tensor"):
        jml.boundary_mask([[0]], 3)
    for size in (2, 2**63 + 1, 3.0, None):
        with raises((TypeError, ValueError), f"size={size}: expected an odd positive integer"):
            jml.boundary_mask(LABELS, size)
    for ignore_index in (255.5, "255", 2**63):
        with raises((TypeError, ValueError), f"ignore_index={ignore_index!r}", "an integer"):
            jml.boundary_mask(LABELS, 3, ignore_index)


def test_smooth_labels():
    with raises(TypeError, "labels has dtype torch.float32", "integer"):
        jml.smooth_labels(LABELS.float(), 3)
    with raises(TypeError, "labels is a NoneType", "expected a Tensor"):
        jml.smooth_labels(None, 3)
    for count in (0, 3.0, "3"):
        with raises((TypeError, ValueError), f"num_classes={count!r}", "expected"):
            jml.smooth_labels(LABELS, count)
    with raises(TypeError, "ignore_index=255.5", "an integer"):
        jml.smooth_labels(LABELS, 3, ignore_index=255.5)
    with raises(ValueError, "label_smoothing=2", "[0, 1]"):
        jml.smooth_labels(LABELS, 3, 2)
    with raises(ValueError, "boundary_size=2", "odd"):
        jml.smooth_labels(LABELS, 3, 0.1, 2)
    with raises(IndexError, "label 3 at position (0, 0, 0)", "[0, 3)"):
        jml.smooth_labels(LABELS + 3, 3)
    with raises(TypeError, "dtype=torch.int64", "expected a floating dtype"):
        jml.smooth_labels(LABELS, 3, 0.1, dtype=torch.int64)


def test_active_classes():
    with raises(ValueError, "mode='some'", "'all', 'present'"):
        jml.active_classes(LOGITS, LABELS, mode="some")
    for threshold in (math.nan, math.inf, "much", None):
        with raises((TypeError, ValueError), f"threshold={threshold!r}", "number"):
            jml.active_classes(LOGITS, LABELS, threshold=threshold)
    with raises(ValueError, "probabilities has value 7 at position (0, 0, 0, 0)", "[0, 1]"):
        jml.active_classes(LOGITS + 7, LABELS)


@pytest.mark.parametrize("columns", [5, None, "valid", ["tp"], [["valid"]], ["valid", 1]], ids=str)
def test_columns(columns):
    with raises(ValueError, f"columns={columns!r}", "a list of some of", "true_positive"):
        jml.class_statistics(LOGITS, LABELS, columns=columns)


@pytest.mark.parametrize("dtype", [torch.float16, "float64", float], ids=str)
def test_dtype_of_statistics(dtype):
    with raises(TypeError, f"dtype={dtype!r}", "torch.float32, torch.float64 or None"):
        jml.class_statistics(LOGITS, LABELS, dtype=dtype)


@pytest.mark.parametrize("mode", ["all", "present", "label", "prob", "both"])
def test_no_class_is_active_where_nothing_counts(mode):
    """In no mode, "all" included."""
    probabilities = torch.full((2, 3, 4, 5), 0.5)
    nothing = torch.zeros(2, 4, 5, dtype=torch.bool)
    for target, mask in ((LABELS, nothing), (LABELS - 100, None), (SOFT - 100, None)):
        assert not jml.active_classes(probabilities, target, mode, mask=mask).any()
    with raises(ValueError, "target has shape (1, 4, 5)", "(2, 4, 5)"):
        jml.active_classes(LOGITS, LABELS[:1])
    with raises(ValueError, "probabilities has shape (5,)"):
        jml.active_classes(LOGITS[0, 0, 0], LABELS)


# ---- objectives ----------------------------------------------------------------------------------

TEACHER = torch.zeros(2, 3, 4, 5)


def distil(logits=LOGITS, labels=LABELS, teacher=TEACHER, mask=None, backend="auto", **options):
    return functional.jaccard_distillation_loss(
        logits, labels, teacher, mask, backend=backend, **options
    )


def cross_entropy(logits=LOGITS, target=LABELS, mask=None, backend="auto", **options):
    return functional.jaccard_cross_entropy_loss(logits, target, mask, backend=backend, **options)


@pytest.mark.parametrize(
    ("error", "parts", "arguments"),
    [
        (TypeError, ["student_logits is a list", "expected a Tensor"], {"logits": [0.0]}),
        (TypeError, ["student_logits has dtype torch.int64"], {"logits": LOGITS.long()}),
        (
            ValueError,
            ["student_logits has shape (1, 1, 2, 3, 4, 5)", "0 to 3 spatial"],
            {"logits": LOGITS[None, None]},
        ),
        (TypeError, ["teacher_logits is a NoneType", "expected a Tensor"], {"teacher": None}),
        (
            TypeError,
            ["teacher_logits has dtype torch.int64", "float16", "float64"],
            {"teacher": TEACHER.long()},
        ),
        (TypeError, ["teacher_logits has dtype torch.bool"], {"teacher": TEACHER > 0}),
        (
            TypeError,
            ["teacher_logits has dtype torch.complex64"],
            {"teacher": TEACHER.to(torch.complex64)},
        ),
        (
            ValueError,
            ["teacher_logits has shape (2, 4, 4, 5)", "expected (2, 3, 4, 5)", "student"],
            {"teacher": torch.zeros(2, 4, 4, 5)},
        ),
        (
            ValueError,
            ["teacher_logits has shape (1, 3, 4, 5)", "expected (2, 3, 4, 5)"],
            {"teacher": TEACHER[:1]},
        ),
        (
            ValueError,
            ["teacher_logits has shape (2, 3, 2, 3)", "expected (2, 3, 4, 5)"],
            {"teacher": TEACHER[:, :, ::2, ::2]},
        ),
        (
            ValueError,
            ["teacher_logits has shape (2, 3, 20)", "expected (2, 3, 4, 5)"],
            {"teacher": TEACHER.flatten(2)},
        ),
        (ValueError, ["teacher_logits has shape (5,)"], {"teacher": TEACHER[0, 0, 0]}),
        (
            ValueError,
            ["teacher_logits is on meta", "expected cpu"],
            {"teacher": TEACHER.to("meta")},
        ),
        (TypeError, ["labels is a list", "expected a Tensor"], {"labels": [0]}),
        (ValueError, ["labels is on meta", "expected cpu"], {"labels": LABELS.to("meta")}),
        (ValueError, ["labels has shape (2, 4, 5)"], {"labels": LABELS.float()}),
        (
            ValueError,
            ["labels has shape (2, 3, 4, 5)", "float32", "(2, 4, 5)", "teacher"],
            {"labels": SOFT},
        ),
        (ValueError, ["labels has the integers", "one 1"], {"labels": BITS}),
        (
            ValueError,
            ["labels has shape (2, 3, 4, 5)", "int64", "(2, 4, 5)", "teacher"],
            {"labels": BITS, "activation": "sigmoid"},
        ),
        (
            ValueError,
            ["labels has shape (2, 1, 4, 5)", "float32", "(2, 4, 5)", "teacher"],
            {
                "logits": LOGITS[:, :1],
                "teacher": TEACHER[:, :1],
                "labels": SOFT[:, :1],
                "activation": "sigmoid",
            },
        ),
        (ValueError, ["labels has shape (1, 4, 5)", "(2, 4, 5)"], {"labels": LABELS[:1]}),
        (ValueError, ["mask has shape (2, 4, 4)", "(2, 4, 5)"], {"mask": LABELS[..., :4] > 0}),
        (TypeError, ["mask has dtype torch.int64", "torch.bool"], {"mask": LABELS}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_tensors_of_distillation(error, parts, arguments, backend):
    with raises(error, *parts):
        distil(**arguments, backend=backend)


@pytest.mark.parametrize("function", [cross_entropy, distil])
@pytest.mark.parametrize("name", ["class_weights", "ce_class_weights"])
@pytest.mark.parametrize(
    ("error", "value", "parts"),
    [
        (TypeError, 1.0, ["=1.0", "a tensor", "a list"]),
        (TypeError, ["1", 1, 1], ["[0]='1'", "a number"]),
        (ValueError, [1.0, -1.0, 1.0], ["[1]=-1.0", ">= 0"]),
        (ValueError, torch.tensor([1.0, 1.0, math.nan]), ["[2]=nan", "finite"]),
        (TypeError, torch.ones(3, dtype=torch.complex64), ["complex64", "floating"]),
        (ValueError, torch.ones(2), ["has shape (2,)", "expected (3,)"]),
        (ValueError, torch.ones(3, 1), ["has shape (3, 1)", "expected (3,)"]),
        (ValueError, torch.tensor(1.0), ["has shape ()", "expected (3,)"]),
        (ValueError, torch.ones(3, device="meta"), ["is on meta", "expected cpu"]),
    ],
    ids=["number", "words", "negative", "nan", "complex", "length", "rank", "scalar", "meta"],
)
def test_weights_of_classes(function, name, error, value, parts, backend):
    with raises(error, name, *parts):
        function(**{name: value}, backend=backend)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("name", ["class_weights", "ce_class_weights"])
def test_weights_that_were_written_later(name, value, backend):
    """A module's buffers, by load_state_dict for example. Of a class that is absent too, which
    would make gradients NaN beside a finite loss."""
    loss = jml.JaccardCrossEntropyLoss(**{name: [1.0, 1.0, 1.0]}, backend=backend)
    assert loss(LOGITS, LABELS).isfinite()
    loss.load_state_dict({name: torch.tensor([1.0, 1.0, value])})
    with raises(ValueError, f"{name}[2]={value}", "a finite number >= 0"):
        loss(LOGITS, LABELS)


def test_weights_of_classes_in_any_dtype(backend):
    """Integers and halves are as good as floats."""
    expected = cross_entropy(ce_class_weights=torch.tensor([1.0, 2.0, 3.0]), backend=backend)
    for dtype in (torch.float16, torch.float64, torch.int64):
        weights = torch.tensor([1, 2, 3], dtype=dtype)
        assert cross_entropy(ce_class_weights=weights, backend=backend) == expected


@pytest.mark.parametrize("labels", [LABELS, None], ids=["labels", "no labels"])
def test_a_teacher_that_requires_grad(labels, compiled):
    teacher = TEACHER.clone().requires_grad_()
    with raises(ValueError, "teacher_logits requires grad", "teacher_logits.detach()"):
        distil(labels=labels, teacher=teacher, backend=compiled)
    distil(labels=labels, teacher=teacher.detach(), backend=compiled)


OBJECTIVE_OPTIONS = [
    *[("ce_weight", value, "a number in [0, 1]") for value in (-0.1, 1.1, math.nan)],
    *[("ce_weight", value, "number") for value in ("much", None, True)],
    ("reduction", "none", "'mean'"),
    *[(name, 3, "1 or 2") for name in ("variant", "norm")],
    *[(name, True, "1 or 2") for name in ("variant", "norm")],
]
DISTILLATION_OPTIONS = [
    *[
        (name, value, "a number in [0, 1]")
        for name in ("ce_label_weight", "jaccard_label_weight")
        for value in (-0.1, 1.1, math.nan)
    ],
    *[
        (name, value, "a finite number > 0")
        for name in ("temperature", "student_temperature")
        for value in (0, -1.0, math.inf, math.nan)
    ],
    *[
        (name, value, "number")
        for name in (
            "ce_label_weight", "jaccard_label_weight", "temperature", "student_temperature",
        )
        for value in ("much", None, False, [0.5])
    ],
    *[("distillation", value, "'ce', 'kl'") for value in ("mse", None)],
    ("teacher_active_classes", "some", "'all', 'present', 'label', 'prob', 'both'"),
    ("activation", "none", "'softmax' or 'sigmoid'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("functions", "name", "value", "expected"),
    [
        *[
            ((cross_entropy, jml.JaccardCrossEntropyLoss), *options)
            for options in OBJECTIVE_OPTIONS
        ],
        *[
            ((distil, jml.JaccardDistillationLoss), *options)
            for options in OBJECTIVE_OPTIONS + DISTILLATION_OPTIONS
        ],
    ],
    ids=lambda value: repr(value) if not isinstance(value, (str, tuple)) else None,
)
def test_options_of_objectives(functions, name, value, expected):
    for function in functions:
        with raises((TypeError, ValueError), f"{name}={value!r}", "expected", expected):
            function(**{name: value})


@pytest.mark.parametrize(
    "function",
    [cross_entropy, distil, jml.JaccardCrossEntropyLoss, jml.JaccardDistillationLoss],
)
def test_one_overlap(function):
    with raises(ValueError, "variant=2 and norm=1", "only one"):
        function(variant=2, norm=1)
    with raises(TypeError, "unexpected keyword argument", "temperatures"):
        function(temperatures=1)


def test_only_distillation_has_a_temperature():
    with raises(TypeError, "unexpected keyword argument", "temperature"):
        cross_entropy(temperature=1.0)


def test_a_bad_label_beside_a_teacher(backend):
    labels = LABELS.clone()
    labels[1, 2, 3] = 3
    for function, given in ((distil, {"labels": labels}), (cross_entropy, {"target": labels})):
        for ce_weight in (0.0, 0.25, 1.0):
            with raises(IndexError, "label 3 at position (1, 2, 3)", "[0, 3)"):
                function(**given, ce_weight=ce_weight, backend=backend)
        # Weights of classes are looked up by label.
        with raises(IndexError, "label 3 at position (1, 2, 3)"):
            function(**given, ce_class_weights=torch.ones(3), backend=backend)
    # Where labels have no weight they still say which pixels count.
    with raises(IndexError, "labels has label 3 at position (1, 2, 3)"):
        distil(labels=labels, ce_label_weight=0, jaccard_label_weight=0, backend=backend)


# ---- the operators, past every check in Python ---------------------------------------------------


def good_arguments(**changed):
    return operator_arguments(**{"logits": LOGITS, "labels": LABELS, **changed})


ARGUMENTS = good_arguments()
BACKWARDS = ("statistics_backward", "statistics_backward_")
BOTH = {"dense": SOFT, "teacher_temperature": 1.0}
BAD_ARGUMENTS = {
    "logits of rank 1": {"logits": LOGITS[0, 0, 0]},
    "logits of rank 6": {"logits": LOGITS[None, None]},
    "no class": {"logits": LOGITS[:, :0]},
    "integer logits": {"logits": LOGITS.long()},
    "labels of another batch": {"labels": LABELS[:1]},
    "labels of another size": {"labels": LABELS[:, :3]},
    "labels of another rank": {"labels": LABELS[0]},
    "floating labels": {"labels": LABELS.float()},
    "dense of another shape": {"labels": None, "dense": SOFT[:, :2]},
    "dense of another rank": {"labels": None, "dense": SOFT[0]},
    "dense of a wrong dtype": {"labels": None, "dense": SOFT.to(torch.complex64)},
    "mask of another shape": {"mask": LABELS[:1] > 0},
    "mask of another dtype": {"mask": LABELS},
    "no target": {"labels": None},
    "integers beside labels": {"dense": BITS},
    "integers beside labels, sigmoid": {"dense": BITS, "activation": "sigmoid"},
    "integers as a teacher": {**BOTH, "labels": None, "dense": BITS},
    "teacher of another shape": {**BOTH, "dense": SOFT[..., :4]},
    "teacher of a wrong dtype": {**BOTH, "dense": SOFT.to(torch.complex64)},
    "a negative temperature": {**BOTH, "teacher_temperature": -1.0},
    "a student's temperature of 0": {**BOTH, "student_temperature": 0.0},
    "weights of too few classes": {"ce_class_weights": torch.ones(2)},
    "weights of another rank": {"ce_class_weights": torch.ones(3, 1)},
    "integer weights": {"ce_class_weights": torch.ones(3, dtype=torch.int64)},
    "unknown activation": {"activation": 3},
    "even window": {"boundary_size": 2},
    "negative window": {"boundary_size": -1},
}


@pytest.mark.parametrize("changed", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_operators_check_for_themselves(changed, compiled):
    """Whoever calls them directly gets an exception, not a read outside the arrays."""
    arguments = good_arguments(**changed)
    operator = getattr(torch.ops.jml_kernels, f"{compiled}_statistics")
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        operator(**arguments)
    arguments = {**gradients(arguments), **arguments}
    for name in BACKWARDS:
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            getattr(torch.ops.jml_kernels, f"{compiled}_{name}")(**arguments)


@pytest.mark.parametrize(
    "changed",
    [
        {"label_active": len(ACTIVE_MODES)},
        {"dense_active": -1},
        {"class_weights": torch.ones(2)},
        {"class_weights": torch.ones(3, dtype=torch.int64)},
    ],
    ids=", ".join,
)
def test_operators_check_the_formula(changed, finished):
    operator = getattr(torch.ops.jml_kernels, f"{finished}_loss")
    assert operator(**ARGUMENTS, **formula_arguments())[0].isfinite()
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        operator(**ARGUMENTS, **formula_arguments(**changed))


LISTS = ("target_ints", "target_floats", "formula_ints", "formula_floats", "overlap")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("change", [lambda numbers: numbers[:-1], lambda numbers: (*numbers, 0)])
def test_operators_check_the_length_of_lists(name, change, finished):
    arguments = {**ARGUMENTS, **formula_arguments()}
    arguments[name] = change(arguments[name])
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        getattr(torch.ops.jml_kernels, f"{finished}_loss")(**arguments)


@pytest.mark.parametrize("scale", [torch.ones(3), torch.tensor(1), torch.ones(0)])
def test_operators_check_the_scale(scale, finished):
    for name in BACKWARDS:
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            getattr(torch.ops.jml_kernels, f"{finished}_{name}")(
                **gradients(ARGUMENTS), **ARGUMENTS, scale=scale
            )


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        (name, change)
        for name in ("grad_sums", "grad_totals")
        for change in (
            lambda grad: grad[..., :-1],
            lambda grad: grad[:, :-1],
            lambda grad: torch.cat([grad, grad]),
            lambda grad: grad[0],
            lambda grad: grad[:0],
            lambda grad: grad.new_zeros(0),
            lambda grad: grad.float(),
        )
    ],
)
def test_operators_check_the_gradients(name, change, targets, compiled):
    arguments = good_arguments(**(BOTH if targets == 2 else {}))
    grads = gradients(arguments)
    for operator in BACKWARDS:
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            getattr(torch.ops.jml_kernels, f"{compiled}_{operator}")(
                **{**grads, name: change(grads[name])}, **arguments
            )


def test_operators_take_strided_gradients(compiled):
    """Autograd may hand any layout; values must not be read in another order."""
    dense = gradients(ARGUMENTS)
    operator = getattr(torch.ops.jml_kernels, f"{compiled}_statistics_backward")
    for name, grad in dense.items():
        strided = grad.transpose(-1, -2).contiguous().transpose(-1, -2)
        try:
            gradient = operator(**{**dense, name: strided}, **ARGUMENTS)
        except (RuntimeError, ValueError):
            continue  # refusing is as good
        assert torch.equal(gradient, operator(**dense, **ARGUMENTS))


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_bad_label_leaves_nothing_behind(overlap, backend):
    """The call after an exception is as good as the first."""
    labels = LABELS.clone()
    before = OVERLAPS[overlap](LOGITS, labels, backend=backend)
    with pytest.raises(IndexError):
        OVERLAPS[overlap](LOGITS, labels + 3, backend=backend)
    assert OVERLAPS[overlap](LOGITS, labels, backend=backend) == before
