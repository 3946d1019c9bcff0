"""Losses on several ranks: the same numbers as one process that has the whole batch."""

from __future__ import annotations

import copy
import importlib
import pickle

import pytest
import torch
from ranks import found
from torch import distributed

import jml_kernels as jml

#: What by_ranks/ has, with the least number of comparisons of a rank.
SUITES = {"losses": 330, "networks": 280, "shards": 400, "accumulation": 70}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_have_the_numbers_of_one_process(world_size):
    """And where ranks average their own losses, the same comparison sees it."""
    findings = found([*SUITES, "local"], world_size)
    for suite, least in SUITES.items():
        assert sum(f" {suite}: " in finding.name for finding in findings) >= least * world_size
    wrong = [finding for finding in findings if not finding.holds]
    assert len([finding for finding in wrong if " local: " in finding.name]) == world_size
    assert not [finding for finding in wrong if " local: " not in finding.name]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_whole_steps_are_compiled():
    findings = found(["compiled"], 2)
    assert len(findings) == 8
    assert not [finding for finding in findings if not finding.holds]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_mesh_of_two_dimensions():
    findings = found(["shards"], 4)
    both = "[Shard(dim=0), Shard(dim=1)]"
    assert any(both in finding.name for finding in findings)
    assert not [finding for finding in findings if not finding.holds]


@pytest.fixture
def group(tmp_path):
    """The default group of a process that is alone."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield distributed.group.WORLD
    distributed.destroy_process_group()


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    return logits, torch.randint(0, 3, (2, 4, 5), generator=generator)


class TestOptions:
    def test_a_group_of_one_rank_is_no_group(self, group, tensors):
        expected = jml.JaccardMetricLoss()(*tensors)
        mesh = distributed.init_device_mesh("cpu", (1,), mesh_dim_names=("data",))
        for process_group in (True, group, mesh, mesh["data"]):
            assert jml.JaccardMetricLoss(process_group=process_group)(*tensors) == expected
        functional = jml.functional.jaccard_metric_loss(*tensors, process_group=group)
        assert functional == expected

    def test_the_default_group_must_be_there(self, tensors):
        loss = jml.JaccardMetricLoss(process_group=True)
        with pytest.raises(RuntimeError, match="process_group=True: expected a default process"):
            loss(*tensors)

    def test_modules_are_copied_with_their_group(self, group, tensors):
        loss = jml.JaccardCrossEntropyLoss(process_group=group)
        twin = copy.deepcopy(loss)
        assert twin.options.process_group is group
        assert twin(*tensors) == loss(*tensors)

    def test_modules_of_the_default_group_are_pickled(self, group, tensors):
        loss = jml.JaccardCrossEntropyLoss(process_group=True, gradients="summed")
        twin = pickle.loads(pickle.dumps(loss))
        assert repr(twin) == repr(loss)
        assert "process_group=True, gradients='summed'" in repr(twin)
        assert twin(*tensors) == loss(*tensors)

    @pytest.mark.parametrize("value", [False, 1, "data", [0, 1], object()])
    def test_what_is_no_group(self, value):
        with pytest.raises(TypeError, match=r"process_group=.*expected a process group, a Devic"):
            jml.JaccardMetricLoss(process_group=value)

    def test_a_group_of_other_ranks(self):
        with pytest.raises(ValueError, match="this rank is not in the group"):
            jml.JaccardMetricLoss(process_group=distributed.GroupMember.NON_GROUP_MEMBER)

    def test_a_mesh_of_more_dimensions(self, group):
        mesh = distributed.init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "model"))
        with pytest.raises(ValueError, match=r"DeviceMesh of one dimension.*mesh\['data'\]"):
            jml.JaccardMetricLoss(process_group=mesh)
        unnamed = distributed.init_device_mesh("cpu", (1, 1))
        with pytest.raises(ValueError, match="expected a process group, a DeviceMesh of one"):
            jml.JaccardMetricLoss(process_group=unnamed)

    def test_without_distributed(self, monkeypatch, tensors):
        monkeypatch.setattr(distributed, "is_available", lambda: False)
        jml.JaccardMetricLoss()(*tensors)
        for value in (True, 1):
            with pytest.raises(ValueError, match=f"process_group={value}: expected None, since Py"):
                jml.JaccardMetricLoss(process_group=value)

    def test_how_gradients_meet(self):
        with pytest.raises(ValueError, match="gradients='mean': expected one of 'averaged', 'su"):
            jml.JaccardMetricLoss(gradients="mean")


class TestShards:
    """What is refused; values are compared in by_ranks/shards.py."""

    @pytest.fixture
    def mesh(self, group):
        importlib.import_module("torch.distributed.tensor")  # it takes seconds
        return distributed.init_device_mesh("cpu", (1,), mesh_dim_names=("model",))

    def shard(self, mesh, tensor, dimension):
        placements = [distributed.tensor.Shard(dimension)]
        return distributed.tensor.distribute_tensor(tensor, mesh, placements)

    def test_the_loss_is_a_plain_tensor(self, mesh, tensors):
        logits, labels = tensors
        expected = jml.JaccardMetricLoss()(logits, labels)
        for target in (labels, self.shard(mesh, labels, 1)):
            value = jml.JaccardMetricLoss()(self.shard(mesh, logits, 2), target)
            assert type(value) is torch.Tensor
            assert value == expected

    def test_plain_logits_and_a_sharded_target(self, mesh, tensors):
        logits, labels = tensors
        with pytest.raises(TypeError, match="target is a DTensor: expected a plain tensor, as log"):
            jml.JaccardMetricLoss()(logits, self.shard(mesh, labels, 0))

    def test_partial_logits(self, mesh, tensors):
        logits, labels = tensors
        partial = distributed.tensor.DTensor.from_local(
            logits, mesh, [distributed.tensor.Partial()]
        )
        with pytest.raises(ValueError, match=r"expected Shard or Replicate; logits\.redistri"):
            jml.JaccardMetricLoss()(partial, labels)

    def test_boundaries_need_a_halo(self, mesh, tensors):
        logits, labels = (self.shard(mesh, tensor, -2) for tensor in tensors)
        loss = jml.JaccardMetricLoss(label_smoothing=0.2, boundary_size=5)
        for target in (labels, labels.to_local()):
            with pytest.raises(
                ValueError, match=r"boundary_size=5: target has shape .*\(2, 8, 5\)"
            ):
                loss(logits, target)

    def test_a_boundary_of_one_pixel_needs_none(self, mesh, tensors):
        logits, labels = (self.shard(mesh, tensor, -2) for tensor in tensors)
        loss = jml.JaccardMetricLoss(label_smoothing=0.2, boundary_size=1)
        assert loss(logits, labels) == loss(*tensors)

    def test_upsampling_needs_whole_images(self, mesh, tensors):
        logits, labels = tensors
        with pytest.raises(ValueError, match="upsample='bilinear': expected None with logits that"):
            jml.JaccardMetricLoss(upsample="bilinear")(self.shard(mesh, logits, 3), labels)

    def test_the_gradient_has_memory_of_its_own(self, mesh, tensors):
        logits, labels = tensors
        with pytest.raises(ValueError, match="inplace_backward=True: expected False with logits"):
            jml.JaccardMetricLoss(inplace_backward=True)(self.shard(mesh, logits, 0), labels)

    def test_another_mesh(self, mesh, tensors):
        logits, labels = tensors
        other = distributed.init_device_mesh("cpu", (1,), mesh_dim_names=("other",))
        with pytest.raises(ValueError, match=r"target is on DeviceMesh.*: expected DeviceMes"):
            jml.JaccardMetricLoss()(self.shard(mesh, logits, 0), self.shard(other, labels, 0))

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (jml.JaccardMetricLoss(activation="sigmoid"), "ones for activation='sigmoid'"),
            (jml.JaccardDistillationLoss(), "student_logits are sharded over classes"),
        ],
    )
    def test_what_sharded_classes_cannot(self, mesh, tensors, loss, message):
        logits, labels = tensors
        sharded = self.shard(mesh, logits, 1)
        others = [sharded] if isinstance(loss, jml.JaccardDistillationLoss) else []
        with pytest.raises(ValueError, match=message):
            loss(sharded, labels, *others)

    def test_sharded_classes_and_probabilities(self, mesh, tensors):
        logits, _ = tensors
        with pytest.raises(TypeError, match=r"target has dtype torch\.float32: expected an in"):
            jml.JaccardMetricLoss()(self.shard(mesh, logits, 1), logits.softmax(1))

    def test_sharded_classes_and_a_wrong_label(self, mesh, tensors):
        logits, labels = tensors
        labels[1, 2, 3] = 3
        with pytest.raises(IndexError, match=r"target has label 3 at position \(1, 2, 3\)"):
            jml.JaccardMetricLoss()(self.shard(mesh, logits, 1), labels)

    def test_statistics_of_sharded_classes(self, mesh, tensors):
        logits, labels = tensors
        with pytest.raises(ValueError, match="expected replicated classes for class_statistics"):
            jml.class_statistics(self.shard(mesh, logits, 1), labels)

    @pytest.mark.parametrize("active_classes", ["all", "present", "label", "prob", "both"])
    @pytest.mark.parametrize("aggregation", ["dataset", "image", "class"])
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_sharded_classes_and_logits_that_overflow(
        self, mesh, tensors, active_classes, aggregation, bad
    ):
        """The loss and the gradient are NaN, as a scaler of gradients expects it."""
        logits, labels = tensors
        logits[0, 0] = bad  # at every pixel, so that none has a probability
        sharded = self.shard(mesh, logits, 1).requires_grad_()
        loss = jml.JaccardMetricLoss(active_classes=active_classes, aggregation=aggregation)
        value = loss(sharded, labels)
        assert value.isnan()
        value.backward()
        assert sharded.grad.to_local().isnan().any()

    def test_sharded_classes_that_are_ruled_out(self, mesh, tensors):
        logits, labels = tensors
        labels.clamp_(max=1)
        logits[:, 2] = -torch.inf
        loss = jml.JaccardCrossEntropyLoss()
        assert loss(self.shard(mesh, logits, 1), labels) == pytest.approx(loss(logits, labels))

    def test_sharded_classes_without_pixels_around(self, mesh, tensors):
        logits, labels = (tensor[..., 0, 0] for tensor in tensors)  # (N, C) and (N,)
        loss = jml.JaccardCrossEntropyLoss(ce_class_weights=[1.0, 2.0, 3.0])
        assert loss(self.shard(mesh, logits, 1), labels) == pytest.approx(loss(logits, labels))

    def test_sharded_classes_that_are_smoothed_to_one_value(self, mesh, tensors):
        logits, labels = tensors
        loss = jml.JaccardMetricLoss(label_smoothing=1.0, active_classes="present")
        assert loss(self.shard(mesh, logits, 1), labels) == pytest.approx(loss(logits, labels))

    @pytest.mark.parametrize(
        ("options", "crop", "message"),
        [
            (
                {},
                (slice(None), slice(1)),
                "expected at least two classes with activation='softmax'",
            ),
            ({"upsample": "trilinear"}, ..., "upsample='trilinear': expected 'bilinear' with logi"),
            ({"upsample": "bilinear"}, ..., r"logits has shape .*: expected spatial sizes from 1"),
        ],
    )
    def test_sharded_classes_are_checked_as_others(self, mesh, tensors, options, crop, message):
        logits, labels = tensors[0][crop], tensors[1][:, :2]
        with pytest.raises(ValueError, match=message):
            jml.JaccardMetricLoss(**options)(self.shard(mesh, logits, 1), labels)

    def test_sharded_classes_and_weights_that_are_learnt(self, mesh, tensors):
        logits, labels = tensors
        weights = torch.ones(3, requires_grad=True)
        with pytest.raises(ValueError, match=r"ce_class_weights requires grad: expected ce_cl"):
            jml.functional.jaccard_cross_entropy_loss(
                self.shard(mesh, logits, 1), labels, ce_class_weights=weights
            )

    def test_sharded_classes_are_compiled(self, mesh, tensors):
        logits, labels = tensors
        loss = jml.JaccardCrossEntropyLoss()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        value = compiled(self.shard(mesh, logits, 1), labels)
        assert value == pytest.approx(loss(logits, labels))
