"""Scores of datasets: against loops, torchmetrics and scikit-learn; the metric of torchmetrics."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ranks import found
from scores_by_loops import expected_scores
from torch import Tensor

import jml_kernels as jml
from jml_kernels import plots, scores
from jml_kernels.evaluation import Evaluation, State, merged
from jml_kernels.extras import MissingPackageError
from jml_kernels.reference_tally import PROBABILITY_UNIT

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(*shape: int, seed: int = 0, ignored: float = 0.1) -> tuple[Tensor, Tensor]:
    """Logits that are right about half the time, and labels in blocks, some of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    n, c, *spatial = shape
    labels = torch.randint(c, (n, *(-(-size // 3) for size in spatial)), generator=generator)
    for dim, size in enumerate(spatial, 1):
        labels = labels.repeat_interleave(3, dim).narrow(dim, 0, size)
    logits += 3 * F.one_hot(labels, c).movedim(-1, 1)
    return logits, labels.masked_fill(torch.rand(labels.shape, generator=generator) < ignored, -100)


def computed(evaluation: Evaluation, *batches: tuple[Tensor, ...]) -> dict[str, Tensor]:
    state = evaluation.empty()
    for batch in batches:
        state = evaluation.updated(state, *batch)
    return evaluation.computed(state)


def assert_close(actual: Tensor, expected: object, within: float, name: str) -> None:
    torch.testing.assert_close(
        actual.cpu(),
        torch.tensor(expected, dtype=actual.dtype),
        rtol=0,
        atol=within,
        msg=lambda text: f"{name}: {text}",
    )


def assert_scores(actual: dict[str, Tensor], expected: dict[str, object]) -> None:
    """Probabilities are counted in units of 1e-9."""
    for name, value in expected.items():
        assert_close(actual[name], value, 1e-8, name)


# ---- against loops -------------------------------------------------------------------------------

SHAPES = [(3, 4, 7, 8), (30, 3, 4, 5), (2, 3, 20), (2, 3, 4, 5, 6), (6, 5), (1, 2, 9, 9)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("active_classes", ["label", "both", "all"])
def test_scores_by_loops(active_classes, shape):
    logits, labels = drawn(*shape)
    evaluation = Evaluation(shape[1], active_classes=active_classes, worst=0.2)
    expected = expected_scores(logits, labels, None, active_classes=active_classes, worst=0.2)
    assert_scores(computed(evaluation, (logits, labels)), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_index": 1},
        {"ignore_index": None},
        {"bins": 15},
        {"bins": 1},
        {"boundary_size": 5},
        {"boundary_size": 1},
        {"worst": 1.0},
        {"worst": 0.0},
    ],
    ids=str,
)
def test_options_by_loops(options):
    logits, labels = drawn(8, 4, 7, 8, ignored=0.0)
    mask = torch.rand(labels.shape) < 0.8
    mask[2] = False
    expected = expected_scores(logits, labels, mask, **options)
    assert_scores(computed(Evaluation(4, **options), (logits, labels, mask)), expected)


@pytest.mark.parametrize("active_classes", ["label", "both", "all"])
def test_classes_and_images_of_nothing(active_classes):
    """Of five classes one is never seen, one only predicted; an image is ignored, one masked."""
    logits, labels = drawn(6, 3, 7, 8)
    logits = torch.cat([logits, logits[:, :2] - 50], 1)
    logits[0, 3, :3] = 20  # predicted where nothing is labelled so
    labels[1] = -100
    mask = torch.ones_like(labels, dtype=torch.bool)
    mask[2] = False
    found = computed(Evaluation(5, active_classes=active_classes), (logits, labels, mask))
    assert_scores(found, expected_scores(logits, labels, mask, active_classes=active_classes))
    assert found["class_counted"].tolist() == [True] * 4 + [active_classes == "all"]
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("backend", [n for n, why in jml.backends().items() if why is None])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype, backend):
    device = "cuda" if backend in ("cuda", "triton") else "cpu"
    logits, labels = (tensor.to(device) for tensor in drawn(2, 4, 9, 11))
    logits = logits.to(dtype)
    evaluation = Evaluation(4, backend=backend)
    state = evaluation.updated(evaluation.empty(device), logits, labels)
    expected = expected_scores(logits.cpu(), labels.cpu(), None)
    for name, value in evaluation.computed(state).items():
        if name in expected:  # one pixel may be in the next bin
            assert_close(value, expected[name], 1e-5, name)


def test_upsampled():
    logits, _ = drawn(2, 4, 3, 4)
    _, labels = drawn(2, 4, 9, 13)
    for align_corners in (False, True):
        full = F.interpolate(logits, size=(9, 13), mode="bilinear", align_corners=align_corners)
        evaluation = Evaluation(4, upsample="bilinear", align_corners=align_corners)
        assert_scores(computed(evaluation, (logits, labels)), expected_scores(full, labels, None))


@pytest.mark.parametrize("active_classes", ["label", "both", "all"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_no_step_needs_values_on_the_host(activation, active_classes):
    """On the meta device there are none: an operation whose shape hangs on them fails."""
    evaluation = Evaluation(
        4, activation=activation, active_classes=active_classes, upsample="bilinear"
    )
    size = (2, 4, 7, 8) if activation == "sigmoid" else (2, 7, 8)
    labels = torch.zeros(size, dtype=torch.int64, device="meta")
    mask = torch.ones(2, 7, 8, dtype=torch.bool, device="meta")
    logits = torch.zeros(2, 4, 5, 6, device="meta")
    state = evaluation.updated(evaluation.empty("meta"), logits, labels, mask)
    expected = [(tensor.shape, tensor.dtype) for tensor in evaluation.empty()]
    assert [(tensor.shape, tensor.dtype) for tensor in state] == expected


def test_compiled_equals_eager():
    torch._dynamo.reset()
    evaluation, batch = Evaluation(4), drawn(2, 4, 7, 8)
    update = torch.compile(evaluation.updated, fullgraph=True, backend="aot_eager")
    expected = evaluation.updated(evaluation.empty(), *batch)
    torch.testing.assert_close(update(evaluation.empty(), *batch), expected)


def test_batches_add_up():
    logits, labels = drawn(7, 4, 7, 8)
    evaluation = Evaluation(4)
    parts = [(logits[i:j], labels[i:j]) for i, j in ((0, 3), (3, 3), (3, 4), (4, 7))]
    expected = {k: v.tolist() for k, v in computed(evaluation, (logits, labels)).items()}
    assert_scores(computed(evaluation, *parts), expected)
    states = [evaluation.updated(evaluation.empty(), *part) for part in parts]
    together = merged(merged(states[0], states[1]), merged(states[2], states[3]))
    assert_scores(evaluation.computed(together), expected)


@pytest.mark.parametrize("active_classes", ["label", "both", "all"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_nothing_at_all(activation, active_classes):
    evaluation = Evaluation(3, activation=activation, active_classes=active_classes)
    shape = (0, 3, 4, 5) if activation == "sigmoid" else (0, 4, 5)
    nothing = torch.zeros(0, 3, 4, 5), torch.zeros(shape, dtype=torch.int64)
    ignored = torch.zeros(2, 3, 4, 5), torch.full((2, *shape[1:]), -100)
    for batches in ([], [nothing], [ignored]):
        for name, value in computed(evaluation, *batches).items():
            assert (value == 0).all(), name


def test_a_perfect_prediction():
    _, labels = drawn(3, 4, 7, 8)
    logits = 200.0 * F.one_hot(labels.clamp(min=0), 4).movedim(-1, 1)
    found = computed(Evaluation(4), (logits, labels))
    for name in ("accuracy", "mean_accuracy", "worst_miou_image", "boundary_iou"):
        assert found[name] == 1
    for how in ("dataset", "image", "class"):
        assert found[f"miou_{how}"] == found[f"mdice_{how}"] == 1
    for name in ("ece", "classwise_ece", "mce", "boundary_ece"):  # confidence 1 is in the last bin
        assert found[name] == 0


def test_parts_that_are_not_asked_for():
    batch = drawn(2, 4, 7, 8)
    every = computed(Evaluation(4), batch)
    without_bins = computed(Evaluation(4, bins=None), batch)
    without_boundaries = computed(Evaluation(4, boundary_size=None), batch)
    of_bins = {name for name in every if "ece" in name or "bins" in name} | {"mce"}
    assert every.keys() - without_bins.keys() == of_bins
    of_boundaries = {name for name in every if "boundary" in name}
    assert every.keys() - without_boundaries.keys() == of_boundaries
    for some in (without_bins, without_boundaries):
        assert_scores(some, {name: every[name].tolist() for name in some})


# ---- independent classes -------------------------------------------------------------------------


class TestSigmoid:
    def drawn(self) -> tuple[Tensor, Tensor]:
        logits, _ = drawn(4, 3, 7, 8)
        noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        return logits, (logits + 2 * noise > 1).long()

    def test_against_sums(self):
        logits, labels = self.drawn()
        found = computed(Evaluation(3, activation="sigmoid"), (logits, labels))
        p, y = logits > 0, labels == 1
        iou = (p & y).sum((0, 2, 3)) / (p | y).sum((0, 2, 3))
        assert found["class_iou"].tolist() == pytest.approx(iou.tolist())
        assert found["accuracy"].item() == pytest.approx((p == y).double().mean().item())
        recall = (p & y).sum((0, 2, 3)) / y.sum((0, 2, 3))
        assert found["mean_accuracy"].item() == pytest.approx(recall.mean().item())
        of_images = ((p & y).sum((2, 3)) / (p | y).sum((2, 3))).mean(1)
        assert found["miou_image"].item() == pytest.approx(of_images.mean().item())
        place = (logits.sigmoid() * 10).long().clamp(max=9)
        gaps = [(labels[place == b] - logits.sigmoid()[place == b]).sum().abs() for b in range(10)]
        assert found["ece"].item() == pytest.approx(sum(gaps).item() / labels.numel(), abs=1e-8)

    def test_images_of_an_empty_mask(self):
        """With "all" an empty mask that is predicted empty counts 1, and one of no pixels not."""
        logits = torch.full((3, 1, 4, 4), -1.0)
        labels = torch.zeros(3, 4, 4, dtype=torch.int64)
        labels[2] = -100
        expected = {"label": 0.0, "both": 0.0, "all": 1.0}
        for active_classes, value in expected.items():
            evaluation = Evaluation(1, activation="sigmoid", active_classes=active_classes)
            found = computed(evaluation, (logits, labels))
            assert found["miou_image"] == value
        logits[1, 0, 0, 0] = 1.0
        found = computed(evaluation, (logits, labels))
        assert found["miou_image"] == 0.5
        mask = torch.ones(3, 4, 4, dtype=torch.bool)
        mask[1] = False
        assert computed(evaluation, (logits, labels, mask))["miou_image"] == 1


# ---- large counts --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2**24, 2**31, 2**40])
def test_large_counts(count):
    """Where float32 adds 1 to 2^24 and gets 2^24: states are built, not counted."""
    evaluation = Evaluation(2, boundary_size=None)
    state = evaluation.empty()
    state.confusion.copy_(torch.tensor([[count, 1], [0, count]]))
    state.counts[:3] = torch.tensor([[count, count], [count, count + 1], [count + 1, count]])
    unit = round(1 / PROBABILITY_UNIT)
    state.calibration[0, 9] = torch.tensor([2**26 + 1, 2**26, (2**26 + 1) * unit])
    found = evaluation.computed(state)
    assert found["accuracy"].item() == pytest.approx(1 - 1 / (2 * count + 1), rel=1e-15)
    assert found["accuracy"] < 1
    iou = count / (count + 1)
    assert found["miou_dataset"].item() == pytest.approx(iou, rel=1e-15)
    assert found["ece"].item() == pytest.approx(1 / (2**26 + 1), rel=1e-9)


def test_small_additions_to_large_counts():
    evaluation = Evaluation(3)
    logits, labels = drawn(2, 3, 7, 8)
    large = State(*(t + 2**33 if t.dtype == torch.int64 else t for t in evaluation.empty()))
    added = evaluation.updated(large, logits, labels)
    alone = evaluation.updated(evaluation.empty(), logits, labels)
    for before, after, one in zip(large, added, alone, strict=True):
        assert torch.equal(after - before, one)


# ---- the worst images ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.25, 1.0])
def test_mean_of_the_lowest(share):
    values = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    values[:10] = torch.tensor([0.0, 1.0] * 5, dtype=torch.float64)
    counts = torch.arange(500) % 7 != 0
    found = scores.mean_of_lowest(*scores.histogram(values, counts), share)
    lowest = values[counts].sort().values[: max(1, int(share * int(counts.sum())))]
    assert found.item() == pytest.approx(lowest.mean().item(), abs=1 / scores.SCORE_BINS)


# ---- other libraries -----------------------------------------------------------------------------


class TestPeers:
    def test_confusion_matrix_of_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        logits, labels = drawn(4, 5, 11, 13)
        counts = labels >= 0
        found = computed(Evaluation(5), (logits, labels))
        y, p = labels[counts].numpy(), logits.argmax(1)[counts].numpy()
        assert found["confusion_matrix"].tolist() == metrics.confusion_matrix(y, p).tolist()
        assert found["class_iou"].tolist() == pytest.approx(
            metrics.jaccard_score(y, p, average=None).tolist()
        )
        assert found["miou_dataset"].item() == pytest.approx(
            metrics.jaccard_score(y, p, average="macro")
        )
        assert found["mdice_dataset"].item() == pytest.approx(
            metrics.f1_score(y, p, average="macro")
        )
        assert found["mean_accuracy"].item() == pytest.approx(metrics.balanced_accuracy_score(y, p))

    def test_overlap_of_torchmetrics(self):
        metrics = pytest.importorskip("torchmetrics.classification")
        logits, labels = drawn(4, 5, 11, 13)
        found = computed(Evaluation(5), (logits, labels))
        confusion = metrics.MulticlassConfusionMatrix(5, ignore_index=-100)(logits, labels)
        assert torch.equal(found["confusion_matrix"], confusion)
        index = metrics.MulticlassJaccardIndex(5, ignore_index=-100)(logits, labels)
        assert found["miou_dataset"].item() == pytest.approx(index.item(), abs=1e-6)

    def test_calibration_of_torchmetrics(self):
        """Right as long as there are few pixels and no confidence is 1."""
        metrics = pytest.importorskip("torchmetrics.classification")
        logits, labels = drawn(4, 5, 11, 13)
        found = computed(Evaluation(5, bins=15), (logits, labels))
        for norm, name in (("l1", "ece"), ("max", "mce")):
            metric = metrics.MulticlassCalibrationError(5, 15, norm, ignore_index=-100)
            assert found[name].item() == pytest.approx(metric(logits, labels).item(), abs=1e-6)

    def test_where_torchmetrics_differs(self):
        """It has a bin of its own for confidence 1: errors of opposite signs, which a bin of 0.9 to
        1 takes together, do not meet."""
        metrics = pytest.importorskip("torchmetrics.classification")
        logits = torch.tensor([[200.0, 0.0], [3.0, 0.0]]).repeat(10, 1)  # 1 and 0.95
        labels = torch.zeros(20, dtype=torch.int64)
        labels[0] = 1
        ours = computed(Evaluation(2, boundary_size=None), (logits, labels))["ece"].item()
        theirs = metrics.MulticlassCalibrationError(2, 10)(logits, labels).item()
        confidence = torch.sigmoid(torch.tensor(3.0)).item()
        assert ours == pytest.approx(abs(19 / 20 - (1 + confidence) / 2), abs=1e-6)
        assert theirs == pytest.approx((0.1 + 1 - confidence) / 2, abs=1e-6)


# ---- the metric of torchmetrics ------------------------------------------------------------------


@pytest.fixture
def make():
    pytest.importorskip("torchmetrics")
    return jml.metrics.SegmentationMetrics


class TestMetric:
    def test_it_is_the_evaluation(self, make):
        batches = [drawn(2, 4, 7, 8, seed=seed) for seed in range(3)]
        metric = make(4, worst=0.5)
        for batch in batches:
            metric.update(*batch)
        found, expected = metric.compute(), computed(Evaluation(4, worst=0.5), *batches)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), name

    def test_docstring_names_every_option(self, make):
        options = [name for name in inspect.signature(make).parameters if name != "options"]
        assert options == list(Evaluation.__dataclass_fields__)
        assert all(name in make.__doc__ for name in options)

    def test_forward_gives_the_scores_of_the_batch(self, make):
        metric = make(4)
        batches = [drawn(2, 4, 7, 8, seed=seed) for seed in range(2)]
        for batch in batches:
            of_batch = metric(*batch)
            assert of_batch["miou_image"] == computed(Evaluation(4), batch)["miou_image"]
        expected = {k: v.tolist() for k, v in computed(Evaluation(4), *batches).items()}
        assert_scores(metric.compute(), expected)

    def test_reset(self, make):
        metric = make(4)
        metric.update(*drawn(2, 4, 7, 8, seed=1))
        metric.reset()
        metric.update(*drawn(2, 4, 7, 8))
        expected = computed(Evaluation(4), drawn(2, 4, 7, 8))
        assert metric.compute()["ece"] == expected["ece"]

    def test_merge_state(self, make):
        one, other, both = make(4), make(4), make(4)
        for metric, seed in ((one, 0), (other, 1), (both, 0), (both, 1)):
            metric.update(*drawn(2, 4, 7, 8, seed=seed))
        one.merge_state(other)
        assert_scores(one.compute(), {k: v.tolist() for k, v in both.compute().items()})

    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda m: m.clone(), lambda m: pickle.loads(pickle.dumps(m))]
    )
    def test_copies(self, copied, make):
        metric = make(4, bins=15)
        metric.update(*drawn(2, 4, 7, 8))
        twin = copied(metric)
        for one in (metric, twin):
            one.update(*drawn(2, 4, 7, 8, seed=1))
        assert twin.compute()["ece"] == metric.compute()["ece"]

    def test_state_dict(self, make):
        """As torchmetrics has it: states are in it where they are persistent."""
        metric = make(4)
        metric.update(*drawn(2, 4, 7, 8))
        assert not metric.state_dict()
        metric.persistent(True)
        twin = make(4)
        twin.persistent(True)
        twin.load_state_dict(metric.state_dict())
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert twin.compute()["ece"] == metric.compute()["ece"]

    def test_the_state_stays_as_large(self, make):
        metric = make(4)
        sizes = set()
        for seed in range(3):
            metric.update(*drawn(3, 4, 7, 8, seed=seed))
            sizes.add(len(pickle.dumps(metric)))
            metric.compute()
        assert max(sizes) - min(sizes) < 100

    def test_in_a_collection(self, make):
        torchmetrics = pytest.importorskip("torchmetrics")
        collection = torchmetrics.MetricCollection({"val": make(4)}, prefix="my_")
        collection.update(*drawn(2, 4, 7, 8))
        expected = computed(Evaluation(4), drawn(2, 4, 7, 8))
        assert collection.compute()["my_miou_image"] == expected["miou_image"]

    def test_gradients_do_not_flow(self, make):
        logits, labels = drawn(2, 4, 7, 8)
        metric = make(4)
        metric.update(logits.requires_grad_(), labels)
        assert not any(value.requires_grad for value in metric.compute().values())

    def test_unknown_option(self, make):
        with pytest.raises(ValueError, match="num_bins"):
            make(4, num_bins=10)

    @pytest.mark.parametrize("world_size", [2])
    def test_ranks(self, world_size, make):
        findings = found(["metrics"], world_size)
        assert len(findings) >= 45 * world_size
        assert not [finding for finding in findings if not finding.holds]


# ---- bad input -----------------------------------------------------------------------------------


class TestBadInput:
    def test_wrong_labels_that_nobody_looked_at(self):
        """As on a GPU."""
        evaluation = Evaluation(4)
        state = evaluation.empty()
        state.wrong[0] = 3
        with pytest.raises(IndexError, match=r"3 pixels out of range: expected labels in \[0, 4\)"):
            evaluation.computed(state)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_wrong_labels_on_a_gpu(self):
        logits, labels = (tensor.cuda() for tensor in drawn(2, 4, 7, 8))
        labels[0, 0, 0] = 4
        evaluation = Evaluation(4)
        state = evaluation.updated(evaluation.empty("cuda"), logits, labels)
        with pytest.raises(IndexError, match="1 pixels out of range"):
            evaluation.computed(state)
        with pytest.raises(IndexError, match="label 4 at position"):
            Evaluation(4, validate=True).updated(state, logits, labels)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to wait for")
    @pytest.mark.parametrize("active_classes", ["label", "all"])
    @pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
    def test_the_host_does_not_wait(self, activation, active_classes):
        logits, labels = (tensor.cuda() for tensor in drawn(2, 4, 7, 8))
        labels = labels if activation == "softmax" else (logits > 0.5).long()
        evaluation = Evaluation(4, activation=activation, active_classes=active_classes)
        state = evaluation.updated(evaluation.empty("cuda"), logits, labels)
        torch.cuda.set_sync_debug_mode("error")
        try:
            evaluation.updated(state, logits, labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_wrong_labels_change_no_state(self, make):
        metric = make(4)
        logits, labels = drawn(2, 4, 7, 8)
        metric.update(logits, labels)
        before = [tensor.clone() for tensor in metric.state]
        labels[1, 2, 3] = 4
        with pytest.raises(IndexError, match=r"labels has label 4 at position \(1, 2, 3\)"):
            metric.update(logits, labels)
        assert all(torch.equal(a, b) for a, b in zip(before, metric.state, strict=True))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"num_classes": 0}, ValueError, "num_classes=0: expected at least 1"),
            ({"num_classes": 2.0}, TypeError, r"num_classes=2\.0: expected an integer"),
            ({"active_classes": "present"}, ValueError, "active_classes='present': expected one"),
            ({"worst": 5}, ValueError, r"worst=5: expected a number in \[0, 1\]"),
            ({"bins": 0}, ValueError, "bins=0: expected an integer >= 1"),
            ({"boundary_size": 2}, ValueError, "boundary_size=2: expected an odd"),
            ({"activation": "none"}, ValueError, "activation='none': expected one of"),
            ({"upsample": "cubic"}, ValueError, "upsample='cubic'"),
        ],
    )
    def test_options(self, options, error, message):
        with pytest.raises(error, match=message):
            Evaluation(**{"num_classes": 3, **options})

    def test_another_number_of_classes(self):
        evaluation = Evaluation(5)
        with pytest.raises(ValueError, match="expected 5 classes, which is num_classes"):
            evaluation.updated(evaluation.empty(), *drawn(2, 4, 7, 8))

    def test_another_device(self):
        evaluation = Evaluation(4)
        with pytest.raises(ValueError, match="logits is on cpu: expected meta"):
            evaluation.updated(evaluation.empty("meta"), *drawn(2, 4, 7, 8))


# ---- imports -------------------------------------------------------------------------------------


def run(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_torchmetrics_the_extra_is_named():
    done = run(
        "import sys\nsys.modules['torchmetrics'] = None\nimport jml_kernels as jml\n"
        "try:\n    jml.metrics\nexcept ImportError as error:\n    print(error)\n"
        "from jml_kernels.evaluation import Evaluation\nprint(Evaluation(3).num_classes)"
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("Install it with: pip install 'jml-kernels[metrics]'")
    assert second == "3"


def test_torchmetrics_is_imported_when_metrics_are_asked_for(make):
    done = run(
        "import sys, jml_kernels as jml\nassert 'torchmetrics' not in sys.modules\n"
        "jml.metrics.SegmentationMetrics(3)\nassert 'matplotlib.pyplot' not in dir(jml)\n"
        "from jml_kernels import metrics\nassert metrics is jml.metrics"
    )
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_none():
    with pytest.raises(AttributeError, match="has no attribute 'metric'"):
        _ = jml.metric


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_explains_every_score_and_option():
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    assert computed(Evaluation(4), drawn(2, 4, 7, 8)).keys() <= named
    defaults = dict(re.findall(r"^\| `(\w+)` \| `([^|]+)` \|", text, flags=re.M))
    for field in dataclasses.fields(Evaluation):
        assert field.name in named
        if field.name in defaults:
            assert defaults[field.name] == repr(field.default).replace("'", '"')


# ---- plots ---------------------------------------------------------------------------------------


class TestPlots:
    @pytest.fixture(autouse=True)
    def matplotlib(self):
        pytest.importorskip("matplotlib")

    @pytest.mark.parametrize("classes", [3, 20, 50])
    def test_confusion_matrix(self, classes, tmp_path):
        found = computed(Evaluation(classes), drawn(2, classes, 7, 8))
        figure, axis = plots.confusion_matrix(found)
        figure.savefig(tmp_path / "plot.png", dpi=40)
        shares = axis.images[0].get_array()
        counts = found["confusion_matrix"].double()
        expected = counts / counts.sum(1, keepdim=True).clamp(min=1)
        torch.testing.assert_close(torch.tensor(shares), expected)
        labels = [label.get_text() for label in axis.get_yticklabels()]
        assert (labels[:3] == ["0", "1", "2"]) == (classes <= plots.NAMED)

    def test_names(self):
        found = computed(Evaluation(3), drawn(2, 3, 7, 8))
        _, axis = plots.confusion_matrix(found, names=["sky", "road", "car"])
        assert [label.get_text() for label in axis.get_xticklabels()] == ["sky", "road", "car"]
        with pytest.raises(ValueError, match="names has 2 entries: expected 3"):
            plots.confusion_matrix(found, names=["sky", "road"])

    @pytest.mark.parametrize("boundary", [False, True])
    def test_reliability_diagram(self, boundary, tmp_path):
        found = computed(Evaluation(3), drawn(2, 3, 7, 8))
        figure, axis = plots.reliability_diagram(found, boundary=boundary)
        figure.savefig(tmp_path / "plot.png", dpi=40)
        bins = found["boundary_calibration_bins" if boundary else "calibration_bins"]
        filled = bins[bins[:, 0] > 0]
        bars = axis.containers[0]
        assert [bar.get_height() for bar in bars] == pytest.approx(filled[:, 1].tolist())

    def test_of_nothing(self, tmp_path):
        found = computed(Evaluation(3))
        for draw in (plots.confusion_matrix, plots.reliability_diagram):
            draw(found)[0].savefig(tmp_path / "plot.png", dpi=40)

    def test_of_a_metric(self, make):
        from matplotlib.figure import Figure  # noqa: PLC0415

        metric = make(3)
        metric.update(*drawn(2, 3, 7, 8))
        axis = Figure().subplots()
        assert metric.plot(ax=axis, kind="reliability_diagram") == (axis.figure, axis)
        figure, _ = metric.plot(metric.compute())
        assert figure is not axis.figure

    def test_what_cannot_be_drawn(self):
        found = computed(Evaluation(3, bins=None), drawn(2, 3, 7, 8))
        with pytest.raises(ValueError, match="scores lack 'calibration_bins'"):
            plots.reliability_diagram(found)
        with pytest.raises(ValueError, match="kind='roc': expected one of"):
            plots.draw("roc", found)
        labels = torch.zeros(2, 3, 4, dtype=torch.int64)
        bits = computed(Evaluation(3, activation="sigmoid"), (torch.randn(2, 3, 4), labels))
        with pytest.raises(ValueError, match=r"shape \(3, 2, 2\): expected \(C, C\)"):
            plots.confusion_matrix(bits)

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'jml-kernels\[plot\]'"):
            plots.confusion_matrix(computed(Evaluation(3)))
