"""Deep supervision: the losses of the heads by hand, with targets that PyTorch resizes and logits
that PyTorch interpolates."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import jml_kernels as jml
from jml_kernels.supervision import nearest

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES, CLASSES = 2, 4

#: The full size, which the first head has or not, and the sizes of the heads.
SIZES = {
    "no dimension": ((), [(), ()]),
    "1-D": ((37,), [(37,), (12,), (5,), (1,)]),
    "halves": ((16, 24), [(16, 24), (8, 12), (4, 6)]),
    "no integers": ((23, 30), [(23, 30), (16, 17), (9, 30), (5, 4)]),
    "all lower": ((13, 24), [(7, 12), (13, 3), (2, 5)]),
    "3-D": ((6, 10, 9), [(6, 10, 9), (6, 5, 4), (4, 2, 3)]),
}
sizes = pytest.mark.parametrize(("full", "heads"), SIZES.values(), ids=SIZES)


def draw_heads(heads: Sequence[tuple[int, ...]], dtype: torch.dtype = torch.float32):
    """Logits that require grad."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(IMAGES, CLASSES, *size) for size in heads]
    logits = [2 * torch.randn(shape, generator=generator) for shape in shapes]
    return [z.to(dtype).requires_grad_() for z in logits]


def draw_labels(full: tuple[int, ...], ignored: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (IMAGES, *full), generator=generator)
    drop = torch.rand(labels.shape, generator=generator) < 0.1
    return labels.masked_fill(drop, 255) if ignored else labels


def draw_target(kind: str, full: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    if kind == "labels":
        return draw_labels(full)
    dense = torch.randn(IMAGES, CLASSES, *full, generator=generator)
    return dense.softmax(1) if kind == "probabilities" else (dense > 0).to(torch.uint8)


def draw_mask(full: tuple[int, ...]) -> Tensor:
    return torch.rand(IMAGES, *full, generator=torch.Generator().manual_seed(3)) < 0.7


def by_pytorch(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resized to nearest neighbours in float64, whatever comes before the spatial dimensions."""
    if not size:
        return tensor
    channels = tensor.reshape(IMAGES, -1, *tensor.shape[tensor.dim() - len(size) :])
    chosen = F.interpolate(channels.double(), size=size, mode="nearest-exact")
    return chosen.reshape(*tensor.shape[: tensor.dim() - len(size)], *size).to(tensor.dtype)


def interpolated(logits: Tensor, full: tuple[int, ...]) -> Tensor:
    mode = ("linear", "bilinear", "trilinear")[len(full) - 1]
    return F.interpolate(logits.float(), size=full, mode=mode)


def assert_same(found: Tensor, expected: Tensor, logits: Sequence[Tensor]) -> None:
    """Value, and the gradient of every head."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(found.sum(), logits)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    for gradient, right in zip(gradients, torch.autograd.grad(expected.sum(), logits), strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-7)


class Recorded:
    """A loss of a user's own, which keeps what it is called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, *arguments):
        self.calls.append(arguments)
        return arguments[0].sum()


# ---- targets of the heads' sizes -----------------------------------------------------------------


@sizes
@pytest.mark.parametrize("with_mask", [False, True], ids=["", "mask"])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "integers 0 and 1"])
def test_value_and_gradients(kind, with_mask, full, heads):
    logits, target = draw_heads(heads), draw_target(kind, full)
    mask = draw_mask(full) if with_mask else None
    loss = jml.JaccardCrossEntropyLoss(
        activation="sigmoid" if kind == "integers 0 and 1" else "softmax", ignore_index=255
    )
    weights = [0.5 + i for i in range(len(heads))]
    found = jml.DeepSupervision(loss, weights)(logits, target, mask)
    expected = sum(
        weight * loss(z, by_pytorch(target, size), None if mask is None else by_pytorch(mask, size))
        for weight, z, size in zip(weights, logits, heads, strict=True)
    )
    assert_same(found, expected, logits)


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64],
)
@pytest.mark.parametrize("name", ["halves", "all lower"])
def test_labels_of_every_integer_dtype(dtype, name):
    full, heads = SIZES[name]
    logits, labels = draw_heads(heads), draw_labels(full, ignored=False)
    deep = jml.DeepSupervision(jml.JaccardMetricLoss(), [1.0] * len(heads))
    assert deep(logits, labels.to(dtype)) == deep(logits, labels)


@pytest.mark.parametrize("larger", [1, 2, 3, 10, 37, 48, 101])
def test_the_nearest_elements_are_those_of_pytorch(larger):
    for n in range(1, larger + 1):
        column = torch.arange(IMAGES * larger).reshape(IMAGES, larger)
        assert torch.equal(nearest(column, (n,)), by_pytorch(column, (n,)))


@pytest.mark.parametrize(("larger", "n"), [(4181, 4130), (4231, 3041), (4449, 4160)])
def test_the_nearest_elements_are_exact(larger, n):
    """PyTorch computes with a scale of float32, which takes a neighbour of these."""
    exact = [(2 * i + 1) * larger // (2 * n) for i in range(n)]
    assert nearest(torch.arange(larger), (n,)).tolist() == exact
    rounded = F.interpolate(torch.arange(larger).double()[None, None], n, mode="nearest-exact")
    assert rounded.flatten().tolist() != exact


def test_nothing_is_copied_where_a_ratio_is_an_integer():
    full, heads = SIZES["halves"]
    target, mask, recorded = draw_target("probabilities", full), draw_mask(full), Recorded()
    jml.DeepSupervision(recorded)(draw_heads(heads), target, mask)
    assert recorded.calls[0][1] is target
    assert recorded.calls[0][2] is mask
    for _, *resized in recorded.calls:
        for one, original in zip(resized, (target, mask), strict=True):
            assert one.untyped_storage().data_ptr() == original.untyped_storage().data_ptr()


def test_a_list_has_what_each_head_takes():
    """As nnU-Net's data loader makes targets."""
    full, heads = SIZES["no integers"]
    logits, labels, mask = draw_heads(heads), draw_labels(full), draw_mask(full)
    deep = jml.DeepSupervision(jml.JaccardMetricLoss(ignore_index=255))
    targets, masks = ([by_pytorch(one, size) for size in heads] for one in (labels, mask))
    assert deep(logits, targets, tuple(masks)) == deep(logits, labels, mask)
    recorded = Recorded()
    jml.DeepSupervision(recorded)(tuple(logits), targets, masks)
    for call, *given in zip(recorded.calls, logits, targets, masks, strict=True):
        assert all(one is other for one, other in zip(call, given, strict=True))


# ---- logits that the loss interpolates -----------------------------------------------------------


@pytest.mark.parametrize(
    ("full", "heads"),
    [SIZES[name] for name in ("1-D", "halves", "no integers", "all lower", "3-D")],
    ids=["1-D", "halves", "no integers", "all lower", "3-D"],
)
def test_heads_are_interpolated_with_upsample(full, heads):
    logits, labels, mask = draw_heads(heads), draw_labels(full), draw_mask(full)
    options = {"label_smoothing": 0.2, "boundary_size": 3, "ignore_index": 255}
    mode = ("linear", "bilinear", "trilinear")[len(full) - 1]
    deep = jml.DeepSupervision(jml.JaccardCrossEntropyLoss(upsample=mode, **options))
    one, total = jml.JaccardCrossEntropyLoss(**options), 2 ** len(heads) - 1
    expected = sum(
        2 ** (len(heads) - 1 - i) / total * one(interpolated(z, full), labels, mask)
        for i, z in enumerate(logits)
    )
    assert_same(deep(logits, labels, mask), expected, logits)


# ---- other losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("with_labels", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("with_mask", [True, False], ids=["mask", ""])
def test_teachers_of_each_head(with_labels, with_mask):
    full, heads = SIZES["no integers"]
    logits, labels, mask = draw_heads(heads), draw_labels(full), draw_mask(full)
    teachers = [torch.randn_like(z) for z in logits]
    loss = jml.JaccardDistillationLoss(temperature=2.0, ignore_index=255)
    labels, mask = labels if with_labels else None, mask if with_mask else None
    found = jml.DeepSupervision(loss, [1, 2, 3, 4])(logits, labels, teachers, mask)
    expected = 0
    for weight, z, teacher, size in zip((1, 2, 3, 4), logits, teachers, heads, strict=True):
        low = [None if one is None else by_pytorch(one, size) for one in (labels, mask)]
        expected += weight * loss(z, low[0], teacher, low[1])
    assert_same(found, expected, logits)


@pytest.mark.parametrize("with_labels", [True, False], ids=["labels", "no labels"])
def test_one_teacher_of_all_heads(with_labels):
    full, heads = SIZES["no integers"]
    logits, labels, mask = draw_heads(heads), draw_labels(full), draw_mask(full)
    labels = labels if with_labels else None
    teacher = torch.randn(IMAGES, CLASSES, *(full if labels is None else (11, 8)))
    loss = jml.JaccardDistillationLoss(upsample="bilinear", ignore_index=255)
    found = jml.DeepSupervision(loss, [1, 2, 3, 4])(logits, labels, teacher, mask=mask)
    one = jml.JaccardDistillationLoss(ignore_index=255)
    expected = sum(
        weight * one(interpolated(z, full), labels, interpolated(teacher, full), mask)
        for weight, z in zip((1, 2, 3, 4), logits, strict=True)
    )
    assert_same(found, expected, logits)
    by_name = jml.DeepSupervision(loss, [1, 2, 3, 4])(
        logits, labels, teacher_logits=[teacher] * 4, mask=mask
    )
    assert by_name == found


def test_one_teacher_of_heads_of_its_size():
    logits, labels = draw_heads([(8, 8), (8, 8)]), draw_labels((8, 8), ignored=False)
    teacher, loss = torch.randn(IMAGES, CLASSES, 8, 8), jml.JaccardDistillationLoss()
    found = jml.DeepSupervision(loss, [1, 1])(logits, labels, teacher)
    assert found == loss(logits[0], labels, teacher) + loss(logits[1], labels, teacher)


@pytest.mark.parametrize(
    "loss",
    [
        jml.JDTLoss(),
        nn.CrossEntropyLoss(),
        lambda z, y: (z.sigmoid() - F.one_hot(y, CLASSES).movedim(-1, 1)).square().mean(),
    ],
    ids=["JDTLoss", "CrossEntropyLoss", "lambda"],
)
def test_other_losses(loss):
    full, heads = SIZES["no integers"]
    logits, labels = draw_heads(heads), draw_labels(full, ignored=False)
    found = jml.DeepSupervision(loss, [1, 1, 1, 1])(logits, labels)
    expected = sum(loss(z, by_pytorch(labels, size)) for z, size in zip(logits, heads, strict=True))
    assert_same(found, expected, logits)


@pytest.mark.parametrize("by_name", [True, False])
def test_the_mask_of_jdt_loss(by_name):
    full, heads = SIZES["halves"]
    logits, labels, mask = draw_heads(heads), draw_labels(full, ignored=False), draw_mask(full)
    deep = jml.DeepSupervision(jml.JDTLoss(), [1, 0, 2])
    found = deep(logits, labels, **{"keep_mask": mask}) if by_name else deep(logits, labels, mask)
    low = by_pytorch(labels, heads[2]), by_pytorch(mask, heads[2])
    expected = jml.JDTLoss()(logits[0], labels, mask) + 2 * jml.JDTLoss()(logits[2], *low)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"aggregation": "image", "reduction": "image"}, (IMAGES,)),
        ({"aggregation": "image", "reduction": "none"}, (IMAGES, CLASSES)),
        ({"reduction": "none"}, (CLASSES,)),
    ],
)
def test_reductions(options, shape):
    full, heads = SIZES["halves"]
    logits, labels = draw_heads(heads), draw_labels(full, ignored=False)
    loss = jml.JaccardMetricLoss(**options)
    found = jml.DeepSupervision(loss, [3, 2, 1])(logits, labels)
    assert found.shape == shape
    expected = sum(
        weight * loss(z, by_pytorch(labels, size))
        for weight, z, size in zip((3, 2, 1), logits, heads, strict=True)
    )
    assert_same(found, expected, logits)


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_weights_halve_and_their_sum_is_1(count):
    heads = [(8, 8)] * count
    logits, labels = draw_heads(heads), draw_labels((8, 8), ignored=False)
    found = jml.DeepSupervision(lambda z, y: z.new_tensor(1.0))(logits, labels)
    assert found.item() == pytest.approx(1)
    weights = np.array([1 / 2**i for i in range(count)])
    given = jml.DeepSupervision(jml.JaccardMetricLoss(), weights / weights.sum())
    default = jml.DeepSupervision(jml.JaccardMetricLoss())
    torch.testing.assert_close(default(logits, labels), given(logits, labels))


@pytest.mark.parametrize(
    "weights",
    [[2, 0.5], (2, 0.5), np.array([2, 0.5], dtype=np.float32), [np.int64(2), np.float16(0.5)]],
)
def test_given_weights_are_taken_as_they_are(weights):
    deep = jml.DeepSupervision(lambda z, y: z.new_tensor(1.0), weights)
    assert deep(draw_heads([(4,), (2,)]), draw_labels((4,))) == 2.5


def test_a_head_of_weight_0_is_not_computed():
    full, heads = SIZES["halves"]
    logits, labels = draw_heads(heads), draw_labels(full, ignored=False)
    with torch.no_grad():
        logits[1].fill_(torch.nan)
    loss = jml.JaccardMetricLoss()
    found = jml.DeepSupervision(loss, (0.75, 0, 0.25))(logits, labels)
    assert found.isfinite()
    found.backward()
    assert logits[1].grad is None
    assert all(logits[i].grad.isfinite().all() for i in (0, 2))
    assert jml.DeepSupervision(loss)(logits, labels).isnan()


# ---- bad input -----------------------------------------------------------------------------------

LOGITS = draw_heads([(8, 8), (4, 4)])
LABELS = draw_labels((8, 8), ignored=False)
TEACHER = torch.randn(IMAGES, CLASSES, 8, 8)


@pytest.mark.parametrize(
    ("kind", "words", "arguments"),
    [
        (TypeError, ["loss=0.5", "module or a function"], (0.5,)),
        (
            TypeError,
            ["class JaccardMetricLoss", "expected JaccardMetricLoss(...)"],
            (jml.JaccardMetricLoss,),
        ),
        (TypeError, ["weights=0.5", "list of numbers"], (abs, 0.5)),
        (TypeError, ["weights='12'", "list of numbers"], (abs, "12")),
        (TypeError, ["weights[1]='a'", "expected a number"], (abs, [1, "a"])),
        (ValueError, ["weights[1]=-1", ">= 0"], (abs, [1, -1])),
        (ValueError, ["weights[0]=nan", "finite"], (abs, [float("nan"), 1])),
        (ValueError, ["weights=[]", "at least one number > 0"], (abs, [])),
        (ValueError, ["weights=(0, 0)", "at least one number > 0"], (abs, (0, 0))),
    ],
)
def test_refused_at_construction(kind, words, arguments):
    with pytest.raises(kind, match=".*".join(map(re.escape, words))):
        jml.DeepSupervision(*arguments)


@pytest.mark.parametrize(
    ("kind", "words", "logits", "others"),
    [
        (TypeError, ["logits is a Tensor", "list or tuple"], LOGITS[0], [LABELS]),
        (ValueError, ["logits=[]", "at least one"], [], [LABELS]),
        (TypeError, ["logits[1] is a ndarray", "Tensor"], [LOGITS[0], np.zeros(3)], [LABELS]),
        (ValueError, ["logits[1]", "(2, 4, 8, 8)", "finest"], LOGITS[::-1], [LABELS]),
        (
            ValueError,
            ["logits[0]", "(2, 4, 8, 8)", "from 1 to (8, 4)", "target of shape (2, 8, 4)"],
            LOGITS,
            [LABELS[:, :, :4]],
        ),
        (
            ValueError,
            ["logits[0]", "(2, 4, 8, 8)", "from 1 to (4, 8)", "mask of shape (2, 4, 8)"],
            LOGITS,
            [LABELS, LABELS[:, :4] > 1],
        ),
        (
            ValueError,
            ["logits[1]", "(2, 4, 0, 4)", "from 1 to (8, 8)"],
            [LOGITS[0], LOGITS[1][:, :, :0]],
            [LABELS],
        ),
        (ValueError, ["target has 3 entries", "expected 2"], LOGITS, [[LABELS] * 3]),
        (ValueError, ["mask has 1 entries", "expected 2"], LOGITS, [LABELS, (LABELS > 1,)]),
        (TypeError, ["logits[0]: mask has dtype", "bool"], LOGITS, [LABELS, LABELS]),
        (TypeError, ["logits[0]: target is a int", "Tensor"], LOGITS, [3]),
        (ValueError, ["logits[0]: ", "target.squeeze(1)"], LOGITS, [LABELS[:, None]]),
        (ValueError, ["logits[1]: target has shape (2, 8, 8)"], LOGITS, [[LABELS, LABELS]]),
        (IndexError, ["logits[0]: target has label 7"], LOGITS, [LABELS * 0 + 7]),
    ],
)
def test_refused_at_a_call(kind, words, logits, others):
    with pytest.raises(kind, match=".*".join(map(re.escape, words))):
        jml.DeepSupervision(jml.JaccardMetricLoss())(logits, *others)


def test_another_number_of_weights_than_of_heads_is_refused():
    deep = jml.DeepSupervision(jml.JaccardMetricLoss(), (1, 0.5, 0.25))
    with pytest.raises(ValueError, match=r"weights=\(1.0, 0.5, 0.25\): expected 2 .*not 3"):
        deep(LOGITS, LABELS)


@pytest.mark.parametrize("arguments", [{}, {"teacher_logits": TEACHER}], ids=["position", "name"])
def test_one_teacher_of_heads_of_other_sizes_is_refused(arguments):
    deep = jml.DeepSupervision(jml.JaccardDistillationLoss())
    words = r"teacher_logits has shape \(2, 4, 8, 8\).*\(4, 4\) of logits\[1\].*list.*upsample"
    with pytest.raises(ValueError, match=words):
        deep(LOGITS, LABELS, *([] if arguments else [TEACHER]), **arguments)


def test_a_head_larger_than_the_target_is_refused_with_upsample():
    deep = jml.DeepSupervision(jml.JaccardMetricLoss(upsample="bilinear"))
    with pytest.raises(ValueError, match=r"logits\[0\]: logits has shape .* from 1 to \(7, 8\)"):
        deep(LOGITS, LABELS[:, :7])


@pytest.mark.parametrize("loss", [Recorded(), lambda *arguments: 0, torch.add])
def test_an_argument_whose_name_is_not_known_is_counted(loss):
    with pytest.raises(ValueError, match="argument 3 has shape"):
        jml.DeepSupervision(loss)(LOGITS, LABELS, TEACHER[:, :, 1:])


# ---- a module ------------------------------------------------------------------------------------


def function_of_a_user(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target)


@pytest.mark.parametrize(
    "loss", [jml.JaccardMetricLoss(class_weights=[1, 2, 3, 4]), function_of_a_user]
)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(loss, copied):
    deep = jml.DeepSupervision(loss, (1, 0.5))
    again = copied(deep)
    assert again(LOGITS, LABELS) == deep(LOGITS, LABELS)
    assert repr(again) == repr(deep)


def test_the_state_is_that_of_the_loss():
    weights = [1.0, 2.0, 3.0, 4.0]
    deep = jml.DeepSupervision(jml.JaccardMetricLoss(class_weights=weights))
    assert list(deep.state_dict()) == ["loss.class_weights"]
    other = jml.DeepSupervision(jml.JaccardMetricLoss(class_weights=[1, 1, 1, 1]))
    other.load_state_dict(deep.state_dict())
    assert other.loss.class_weights.tolist() == weights
    assert deep.to(torch.float64).loss.class_weights.dtype == torch.float64


def test_repr():
    deep = jml.DeepSupervision(jml.JaccardMetricLoss(smooth=1.0), (1, 0.5))
    assert "(loss): JaccardMetricLoss(smooth=1.0)" in repr(deep)
    assert "weights=(1.0, 0.5)" in repr(deep)
    assert "weights" not in repr(jml.DeepSupervision(jml.JaccardMetricLoss()))
    assert "function_of_a_user" in repr(jml.DeepSupervision(function_of_a_user))


def compiled_cases() -> dict[str, tuple[Callable[..., Tensor], list]]:
    full, _ = SIZES["no integers"]
    labels, mask = draw_labels(full, ignored=False), draw_mask(full)
    teacher = torch.randn(IMAGES, CLASSES, *full)
    return {
        "labels": (jml.JaccardMetricLoss(), [labels, mask]),
        "teacher": (jml.JaccardDistillationLoss(upsample="bilinear"), [labels, teacher, mask]),
    }


@pytest.mark.parametrize("name", compiled_cases())
def test_it_compiles_without_a_graph_break(name):
    torch._dynamo.reset()
    logits = draw_heads(SIZES["no integers"][1])
    loss, others = compiled_cases()[name]
    deep = jml.DeepSupervision(loss, (1, 0.5, 0, 0.25))
    graph = torch.compile(deep, fullgraph=True, backend="aot_eager")
    found, expected = graph(logits, *others), deep(logits, *others)
    torch.testing.assert_close(found, expected)
    used = [logits[i] for i in (0, 1, 3)]
    for one, other in zip(
        torch.autograd.grad(found, used), torch.autograd.grad(expected, used), strict=True
    ):
        torch.testing.assert_close(one, other)
    torch._dynamo.reset()
