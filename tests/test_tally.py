"""What metrics count of a batch: the reference against loops over pixels, kernels against the
reference, and the call that checks and chooses."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from tally_cases import (
    CASES,
    SELECTED,
    UPSAMPLED,
    TallyCase,
    assert_same,
    assert_tally,
    assert_wrong_labels_are_left_out,
    computes,
    on,
    tallied,
)
from torch import Tensor

import jml_kernels as jml
from jml_kernels import tally as module
from jml_kernels.backend import BY_NAME
from jml_kernels.packing import NEVER
from jml_kernels.reference_tally import PROBABILITY_UNIT
from jml_kernels.tally import TALLIES, Tally, TallyOptions, tally
from jml_kernels.upsampling import interpolated

pytestmark = pytest.mark.usefixtures("one_thread")

#: Backends that run here, stand-ins left out: these are tested by by_environment/tally.py.
RUNNING = [name for name in TALLIES if jml.backends()[name] is None]
every_backend = pytest.mark.parametrize("backend", RUNNING)
with_operators = pytest.mark.parametrize(
    "backend",
    [name for name in RUNNING if name != "reference"]
    or [pytest.param(None, marks=pytest.mark.skip(reason="no kernels that count run here"))],
)


def each(cases: list[TallyCase]):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


# ---- the reference, by loops ---------------------------------------------------------------------


def boundary(values: dict, at: tuple[int, ...], size: int) -> bool:
    """Whether the window about a pixel holds another number, and no ignored pixel (None)."""
    reach = range(-(size // 2), size // 2 + 1)
    offsets = product(reach, repeat=len(at) - 1)
    window = [(at[0], *(a + d for a, d in zip(at[1:], offset, strict=True))) for offset in offsets]
    seen = [values[place] for place in window if place in values]
    return None not in seen and len(set(seen)) > 1


def by_loops(logits: Tensor, labels: Tensor, mask: Tensor | None, case: TallyCase) -> Tally:
    """As one would write it without vectors."""
    n, c = logits.shape[:2]
    of_images = torch.zeros(n, 6, c, dtype=torch.int64)
    confusion = torch.zeros(c, c, dtype=torch.int64)
    calibration = torch.zeros(2, case.bins, 3, dtype=torch.int64)
    classwise = torch.zeros(c, case.bins, 3, dtype=torch.int64)
    if case.full_size is not None:
        logits = interpolated(logits, case.full_size, case.align_corners)
    label_map, prediction_map = {}, {}
    places = list(product(*map(range, labels.shape)))
    for at in places:
        label = labels[at].item()
        numbers = logits[(at[0], slice(None), *at[1:])].tolist()
        ignored = label == case.ignore_index
        label_map[at] = None if ignored else label
        prediction_map[at] = None if ignored else numbers.index(max(numbers))
    for at in places:
        label, prediction = label_map[at], prediction_map[at]
        if label is None or (mask is not None and not mask[at]):
            continue
        numbers = logits[(at[0], slice(None), *at[1:])].tolist()
        weights = [math.exp(number - max(numbers)) for number in numbers]
        p = [weight / sum(weights) for weight in weights]
        size = case.boundary_size or 1
        at_label = boundary(label_map, at, size)
        at_prediction = boundary(prediction_map, at, size)
        confusion[label, prediction] += 1
        rows = (label == prediction, True, True)
        near = (label == prediction and at_label and at_prediction, at_prediction, at_label)
        for row, (is_one, k) in enumerate(
            zip((*rows, *near), (label, prediction, label) * 2, strict=True)
        ):
            of_images[at[0], row, k] += int(is_one)

        def add(bins: Tensor, probability: float, is_true: bool) -> None:
            place = min(int(probability * case.bins), case.bins - 1)
            units = round(probability / PROBABILITY_UNIT)
            bins[place] += torch.tensor([1, int(is_true), units])

        for part, counts in ((0, True), (1, at_label)):
            if counts and case.calibration:
                add(calibration[part], max(p), label == prediction)
        for k in range(c):
            if case.classwise:
                add(classwise[k], p[k], k == label)
    return Tally(of_images, confusion, calibration, classwise, torch.zeros(1, dtype=torch.int64))


LOOPED = [
    TallyCase("as it is", (2, 3, 6, 7)),
    TallyCase("masked", (2, 3, 6, 7), masked=0.3, bins=7),
    TallyCase("no spatial dimension", (9, 4)),
    TallyCase("a sequence", (2, 3, 9), boundary_size=5),
    TallyCase("a volume", (1, 3, 3, 4, 5), ignored=0.01),
    TallyCase("a window of one pixel", (1, 3, 6, 7), boundary_size=1),
    TallyCase("a wide window", (1, 3, 6, 7), boundary_size=9, ignored=0.01),
    TallyCase("nothing ignored", (1, 3, 6, 7), ignore_index=None),
    TallyCase("ignored is a class", (1, 3, 6, 7), ignore_index=1, ignored=0.0),
    TallyCase("ties", (1, 3, 6, 7), values="ties", bins=7),
    TallyCase("saturated", (1, 3, 6, 7), values="saturated"),
    TallyCase("parts", (1, 3, 6, 7), calibration=False, classwise=False, boundary_size=None),
    TallyCase("interpolated", (1, 3, 3, 4), (6, 7), align_corners=True),
]


@each(LOOPED)
def test_reference_by_loops(case):
    logits, labels, mask = case.draw()
    expected = by_loops(logits.double(), labels, mask, case)
    assert_same(Tally(*TALLIES["reference"](logits, labels, mask, case.ints)), expected)


def test_by_hand():
    """Two pixels of a class are predicted rightly, one of another wrongly, one is ignored."""
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]).T.view(1, 2, 4)
    labels = torch.tensor([[0, 0, 1, -100]])
    found = tally(logits, labels, None, TallyOptions(backend="reference"))
    assert found.confusion.tolist() == [[2, 0], [1, 0]]
    # hits, predicted, labelled; then at boundaries, of which the labels have one: the second pixel.
    # (The third has an ignored neighbour, and all that count are predicted alike.)
    assert found.of_images.tolist() == [[[2, 0], [3, 0], [2, 1], [0, 0], [0, 0], [1, 0]]]
    confidence = 1 / (1 + math.exp(-2))  # 0.88
    pixels, correct, units = found.calibration[0, 8].tolist()
    assert (pixels, correct) == (3, 2)
    assert units * PROBABILITY_UNIT == pytest.approx(3 * confidence)
    assert found.calibration[1, 8, :2].tolist() == [1, 1]
    assert found.classwise[:, :, 0].sum(1).tolist() == [3, 3]
    assert found.classwise[1, 1, :2].tolist() == [3, 1]


# ---- every backend -------------------------------------------------------------------------------


@pytest.fixture
def device(backend) -> str:
    return "cuda" if BY_NAME[backend].needs_gpu else "cpu"


@every_backend
@each([*CASES, *UPSAMPLED])
def test_tally(case, backend, device):
    if not computes(backend, case):
        pytest.skip("it does not interpolate")
    assert_tally(case, backend, device)


@every_backend
@pytest.mark.parametrize("label", [5, -1, 2**40, -(2**40)])
def test_wrong_labels_are_left_out(label, backend, device):
    assert_wrong_labels_are_left_out(label, backend, device)


@every_backend
def test_wrong_labels_at_boundaries_are_counted(backend, device):
    case = TallyCase("")
    logits, labels, mask = case.draw()
    labels[0, 2, 3] = 7
    found = Tally(*TALLIES[backend](*on(device, logits, labels, mask), case.ints))
    assert found.wrong.item() == 1
    assert found.confusion.sum() == (labels >= 0).sum() - 1


@every_backend
def test_uint64_that_would_wrap_to_ignore_index(backend, device):
    case = TallyCase("", ignored=0.0, boundary_size=None)
    logits, labels, _ = case.draw()
    labels[0, 2, 3] = -100
    found = Tally(
        *TALLIES[backend](*on(device, logits, labels.view(torch.uint64), None), case.ints)
    )
    assert found.wrong.item() == 1


@every_backend
@each(SELECTED)
def test_the_same_numbers_twice(case, backend, device):
    if not computes(backend, case):
        pytest.skip("it does not interpolate")
    for one, other in zip(*(tallied(case, backend, device) for _ in range(2)), strict=True):
        assert torch.equal(one, other)


@every_backend
@each(SELECTED)
def test_fake_outputs_have_the_shapes_and_strides_of_real_ones(case, backend, device):
    if not computes(backend, case):
        pytest.skip("it does not interpolate")
    fake = module._fake_tally(*on("meta", *case.draw()), case.ints)
    for one, other in zip(tallied(case, backend, device), fake, strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


@with_operators
@each(SELECTED)
def test_opcheck(case, backend, device):
    arguments = (*on(device, *case.draw()), list(case.ints))
    torch.library.opcheck(TALLIES[backend], arguments)


@every_backend
@pytest.mark.parametrize("options", [{}, {"upsample": "bilinear"}], ids=["", "upsample"])
def test_compiled_equals_eager(options, backend, device):
    """fullgraph=True: a graph break is an error."""
    torch._dynamo.reset()
    options = TallyOptions(backend=backend, **options)
    case = UPSAMPLED[1] if options.upsample else TallyCase("")
    tensors = on(device, *case.draw())
    compiled = torch.compile(tally, fullgraph=True, backend="aot_eager")(*tensors, options)
    assert_same(compiled, tally(*tensors, options))


@every_backend
def test_no_gradient(backend, device):
    logits, labels, _ = on(device, *TallyCase("").draw())
    found = tally(logits.requires_grad_(), labels, None, TallyOptions(backend=backend))
    assert not any(tensor.requires_grad for tensor in found)


@every_backend
def test_autocast_changes_nothing(backend, device):
    logits, labels, _ = on(device, *TallyCase("").draw())
    options = TallyOptions(backend=backend)
    expected = tally(logits, labels, None, options)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = tally(logits, labels, None, options)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to wait for")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@every_backend
def test_the_host_does_not_wait(activation, backend):
    labels = torch.randint(2, (2, 3, 8, 8) if activation == "sigmoid" else (2, 8, 8), device="cuda")
    logits = torch.randn(2, 3, 8, 8, device="cuda")
    if BY_NAME[backend].device == "cpu":
        pytest.skip("it runs on the CPU")
    options = TallyOptions(activation=activation, backend=backend)
    tally(logits, labels, None, options)
    torch.cuda.set_sync_debug_mode("error")
    try:
        tally(logits, labels, None, options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---- the call ------------------------------------------------------------------------------------


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    return logits, torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


class TestIndependentClasses:
    def test_each_class_is_a_binary_task(self):
        """Of two classes, whose logits are the class's and 0."""
        logits, _ = drawn(2, 3, 5, 6)
        labels = (logits + torch.randn_like(logits) > 0).long()
        labels[0, 1, 2, 3] = -100
        mask = torch.rand(2, 5, 6) < 0.8
        options = TallyOptions(activation="sigmoid")
        found = tally(logits, labels, mask, options)
        for c in range(3):
            two = torch.stack([torch.zeros_like(logits[:, c]), logits[:, c]], 1)
            alone = tally(two, labels[:, c], mask, TallyOptions())
            assert torch.equal(found.confusion[c], alone.confusion)
            assert torch.equal(found.of_images[:, :, c], alone.of_images[:, :, 1])
            assert torch.equal(found.classwise[c, :, :2], alone.classwise[1, :, :2])

    def test_one_class_takes_labels_without_a_channel(self):
        logits = torch.randn(2, 1, 4, 5)
        labels = torch.randint(2, (2, 4, 5))
        options = TallyOptions(activation="sigmoid")
        with_channel = tally(logits, labels.unsqueeze(1), None, options)
        for one, other in zip(tally(logits, labels, None, options), with_channel, strict=True):
            assert torch.equal(one, other)

    def test_upsampled(self):
        logits, labels = torch.randn(2, 3, 2, 3), torch.randint(2, (2, 3, 8, 9))
        options = TallyOptions(activation="sigmoid")
        full = interpolated(logits, (8, 9), align_corners=False)
        found = tally(logits, labels, None, TallyOptions(activation="sigmoid", upsample="bilinear"))
        for one, other in zip(found, tally(full, labels, None, options), strict=True):
            assert torch.equal(one, other)


class TestBadInput:
    def test_label_out_of_range(self):
        logits, labels = drawn(2, 3, 4, 5)
        labels[1, 2, 3] = 3
        with pytest.raises(IndexError, match=r"labels has label 3 at position \(1, 2, 3\)"):
            tally(logits, labels, None, TallyOptions())
        mask = labels < 3
        assert tally(logits, labels, mask, TallyOptions()).wrong.item() == 0

    def test_bit_out_of_range(self):
        labels = torch.zeros(2, 3, 4, dtype=torch.int64)
        labels[1, 2, 3] = 2
        with pytest.raises(IndexError, match=r"label 2 at position \(1, 2, 3\).*in \[0, 2\)"):
            tally(torch.zeros(2, 3, 4), labels, None, TallyOptions(activation="sigmoid"))

    @pytest.mark.parametrize(
        ("logits", "labels", "options", "error", "message"),
        [
            (torch.zeros(2, 3, 4), [0], {}, TypeError, "labels is a list: expected a Tensor"),
            (torch.zeros(2, 3, 4), torch.zeros(2, 4), {}, TypeError, r"dtype torch\.float32"),
            (torch.zeros(2, 3, 4), torch.zeros(2, 1, 4).long(), {}, ValueError, r"squeeze\(1\)"),
            (torch.zeros(2, 3, 4), torch.zeros(2, 5).long(), {}, ValueError, r"expected \(2, 4\)"),
            (torch.zeros(2, 3, 4).long(), torch.zeros(2, 4).long(), {}, TypeError, "logits has"),
            (torch.zeros(2, 1, 4), torch.zeros(2, 4).long(), {}, ValueError, "sigmoid"),
            (
                *(torch.zeros(2, 3, 8), torch.zeros(2, 4).long(), {"upsample": "linear"}),
                *(ValueError, "logits has shape"),
            ),
        ],
    )
    def test_tensors(self, logits, labels, options, error, message):
        with pytest.raises(error, match=message):
            tally(logits, labels, None, TallyOptions(**options))

    def test_mask(self):
        logits, labels = drawn(2, 3, 4, 5)
        with pytest.raises(TypeError, match="mask has dtype"):
            tally(logits, labels, torch.ones(2, 4, 5), TallyOptions())

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"bins": 0}, ValueError, "bins=0: expected an integer >= 1"),
            ({"bins": 2.5}, TypeError, r"bins=2\.5: expected an integer"),
            ({"boundary_size": 4}, ValueError, "boundary_size=4: expected an odd positive"),
            ({"ignore_index": "none"}, TypeError, "ignore_index='none': expected an integer"),
            ({"activation": "none"}, ValueError, "activation='none': expected one of 'softmax'"),
            ({"upsample": "nearest"}, ValueError, "upsample='nearest': expected None or one of"),
            ({"align_corners": True}, ValueError, "align_corners=True: expected False without"),
            ({"calibration": "yes"}, TypeError, "calibration='yes': expected True or False"),
            ({"backend": "gpu"}, ValueError, "backend='gpu': expected one of 'auto'"),
        ],
    )
    def test_options(self, options, error, message):
        with pytest.raises(error, match=message):
            TallyOptions(**options)

    def test_a_backend_that_cannot_run(self):
        reasons = {name: reason for name, reason in jml.backends().items() if reason}
        if not reasons:
            pytest.skip("all can")
        logits, labels = drawn(2, 3, 4, 5)
        for name in reasons:
            with pytest.raises(RuntimeError, match=f"backend='{name}' cannot run here"):
                tally(logits, labels, None, TallyOptions(backend=name))


def test_options_travel_as_integers():
    ints = TallyOptions(ignore_index=None, boundary_size=None, upsample="bilinear").ints
    assert (ints.ignore_index, ints.boundary_size, ints.upsample) == (NEVER, 0, 1)
