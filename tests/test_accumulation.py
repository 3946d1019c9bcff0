"""`accumulate`: micro-batches have the loss and the gradients of the whole batch."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import jml_kernels as jml

C = 4
pytestmark = pytest.mark.usefixtures("one_thread")

#: Relative, of the l2 norm of all gradients.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}


def network(dtype: torch.dtype = torch.float64, *layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, C, 1)
    return nn.Sequential(first, *layers, nn.GELU(), last).to(dtype)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Images and labels, float64. One image has a class that no other has, one is ignored."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(7, 3, 8, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, C - 1, (7, 8, 6), generator=generator)
    labels[5, 2:4] = C - 1
    labels[3] = -100
    return images, labels


def pieces(*tensors: Tensor, sizes: tuple[int, ...] = (1, 3, 2, 1)) -> list[tuple[Tensor, ...]]:
    return list(zip(*(tensor.split(sizes) for tensor in tensors), strict=True))


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])


def assert_whole(model, alone, value, expected, tolerance=TOLERANCE[torch.float64]):
    assert value.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-13)
    difference = (gradient(model) - gradient(alone)).norm()
    assert difference <= tolerance * gradient(alone).norm()


LOSSES = {
    "jml": jml.JaccardMetricLoss(),
    "dice": jml.SoftDiceLoss(active_classes="all", smooth=1.0),
    "focal": jml.TverskyMetricLoss(0.3, 0.7, gamma=1.5, active_classes="prob"),
    "log": jml.JaccardMetricLoss(log_loss=True, class_weights=[1.0, 2.0, 3.0, 4.0]),
    "objective": jml.JaccardCrossEntropyLoss(
        label_smoothing=0.2, boundary_size=3, ce_class_weights=[1.0, 2.0, 3.0, 4.0]
    ),
    "authors": jml.JDTLoss(mIoUD=0.5, mIoUI=0.3, mIoUC=0.2, ignore_index=-100),
}


class TestWholeBatch:
    @pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
    @pytest.mark.parametrize("name", LOSSES)
    def test_every_loss(self, batch, name, dtype):
        images, labels = batch
        images, loss = images.to(dtype), LOSSES[name]
        model = network(dtype)
        alone = copy.deepcopy(model)
        expected = loss(alone(images), labels)
        expected.backward()
        value = jml.accumulate(loss, model, pieces(images, labels))
        assert not value.requires_grad
        assert value.dtype == expected.dtype
        assert_whole(model, alone, value, expected, TOLERANCE[dtype])

    @pytest.mark.parametrize("aggregation", ["dataset", "image", "class", {"image": 1, "class": 2}])
    def test_every_aggregation(self, backend, device, batch, aggregation):
        images, labels = (tensor.to(device) for tensor in batch)
        loss = jml.JaccardCrossEntropyLoss(aggregation=aggregation, backend=backend)
        model = network().to(device)
        alone = copy.deepcopy(model)
        expected = loss(alone(images), labels)
        expected.backward()
        value = jml.accumulate(loss, model, pieces(images, labels))
        assert_whole(model, alone, value, expected)

    def test_the_mean_of_losses_is_another(self, batch):
        model = network()
        alone = copy.deepcopy(model)
        loss = jml.JaccardMetricLoss()
        loss(alone(batch[0]), batch[1]).backward()
        parts = pieces(*batch)
        for images, labels in parts:
            (loss(model(images), labels) / len(parts)).backward()
        assert (gradient(model) - gradient(alone)).norm() > 0.1 * gradient(alone).norm()

    def test_distillation(self, batch):
        images, labels = batch
        teacher = network()
        loss = jml.JaccardDistillationLoss(temperature=2.0)
        model = network()
        alone = copy.deepcopy(model)
        with torch.no_grad():
            teacher_logits = teacher(images)
        expected = loss(alone(images), labels, teacher_logits)
        expected.backward()
        value = jml.accumulate(loss, model, pieces(images, labels, teacher_logits))
        assert_whole(model, alone, value, expected)

        def student_and_teacher(inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            some_images, some_labels = inputs
            with torch.no_grad():
                of_teacher = teacher(some_images)
            return model(some_images), some_labels, of_teacher

        model.zero_grad()
        micro_batches = [(part,) for part in pieces(images, labels)]
        value = jml.accumulate(loss, student_and_teacher, micro_batches)
        assert_whole(model, alone, value, expected)

    def test_upsampled_and_supervised_at_every_head(self, batch):
        images, labels = batch

        class Heads(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = network(), network()

            def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
                return self.first(images), self.second(images[..., ::2, ::2])

        for loss in (
            jml.DeepSupervision(jml.JaccardCrossEntropyLoss()),
            jml.DeepSupervision(jml.JaccardMetricLoss(upsample="bilinear"), [0.7, 0.3]),
        ):
            model = Heads()
            alone = copy.deepcopy(model)
            expected = loss(alone(images), labels)
            expected.backward()
            value = jml.accumulate(loss, model, pieces(images, labels))
            assert_whole(model, alone, value, expected)

    def test_a_function_of_losses(self, batch):
        images, labels = batch
        jaccard, dice = jml.JaccardMetricLoss(), jml.DiceSemimetricLoss(aggregation="image")

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return 0.3 * jaccard(logits, target) ** 2 + dice(logits, target)

        model = network()
        alone = copy.deepcopy(model)
        expected = loss(alone(images), labels)
        expected.backward()
        value = jml.accumulate(loss, model.forward, pieces(images, labels))
        assert_whole(model, alone, value, expected)

    def test_one_micro_batch_and_an_empty_one(self, batch):
        images, labels = batch
        alone, loss = network(), jml.JaccardMetricLoss()
        expected = loss(alone(images), labels)
        expected.backward()
        for sizes in ((7,), (3, 0, 4), (0, 7)):
            model = network()
            value = jml.accumulate(loss, model, pieces(images, labels, sizes=sizes))
            assert_whole(model, alone, value, expected)

    def test_gradients_are_added(self, batch):
        model, alone = network(), network()
        jml.accumulate(jml.JaccardMetricLoss(), alone, pieces(*batch))
        for _ in range(2):
            jml.accumulate(jml.JaccardMetricLoss(), model, iter(pieces(*batch)))
        assert torch.allclose(gradient(model), 2 * gradient(alone), rtol=1e-13)


class TestSecondForward:
    """It repeats the first one, and leaves what one forward leaves."""

    def test_dropout_drops_the_same(self, batch):
        images, labels = batch
        loss = jml.JaccardMetricLoss()
        model = network(torch.float64, nn.Dropout(0.5))
        alone = copy.deepcopy(model)
        parts = pieces(images, labels)
        torch.manual_seed(5)
        value = jml.accumulate(loss, model, parts)
        after = torch.rand(())
        torch.manual_seed(5)
        expected = loss(torch.cat([alone(part) for part, _ in parts]), labels)
        assert torch.rand(()) == after  # and the generator stands where one forward leaves it
        expected.backward()
        assert_whole(model, alone, value, expected)

    @pytest.mark.parametrize("as_function", [False, True])
    def test_running_statistics_change_once(self, batch, as_function):
        images, labels = batch
        loss = jml.JaccardMetricLoss()
        model = network(torch.float64, nn.BatchNorm2d(8))
        alone = copy.deepcopy(model)
        parts = pieces(images, labels)
        forward = model.forward if as_function else model
        value = jml.accumulate(loss, forward, parts)
        expected = loss(torch.cat([alone(part) for part, _ in parts]), labels)
        expected.backward()
        assert_whole(model, alone, value, expected)
        for name, buffer in alone.named_buffers():
            assert torch.equal(model.get_buffer(name), buffer), name
        assert model[1].num_batches_tracked == len(parts)

    def test_buffers_that_a_forward_replaces(self, batch):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, inputs: Tensor) -> Tensor:
                self.calls = self.calls + 1
                return inputs * self.calls

        model = network(torch.float64, Counting())
        alone = copy.deepcopy(model)
        parts, loss = pieces(*batch), jml.JaccardMetricLoss()
        value = jml.accumulate(loss, model, parts)
        expected = loss(torch.cat([alone(part) for part, _ in parts]), batch[1])
        expected.backward()
        assert_whole(model, alone, value, expected)
        assert model[1].calls == len(parts)

    def test_buffers_are_put_back_after_an_error(self, batch):
        model = network(torch.float64, nn.BatchNorm2d(8))
        before = copy.deepcopy(model.state_dict())
        images, labels = batch
        labels[6] = C
        with pytest.raises(IndexError, match="target has label 4"):
            jml.accumulate(jml.JaccardMetricLoss(), model, pieces(images, labels))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        labels[6] = 0  # and the next call is one of its own
        jml.accumulate(jml.JaccardMetricLoss(), model, pieces(images, labels))

    @pytest.mark.parametrize("use_reentrant", [False, True])
    def test_checkpointed_layers(self, batch, use_reentrant):
        images, labels = batch
        model = network(torch.float64, nn.Dropout(0.5))
        plain, checkpointed = copy.deepcopy(model), copy.deepcopy(model)
        parts = pieces(images.requires_grad_(), labels)

        def forward(inputs: Tensor) -> Tensor:
            return checkpoint(checkpointed, inputs, use_reentrant=use_reentrant)

        values = []
        for function in (plain, forward):
            torch.manual_seed(3)
            values.append(jml.accumulate(jml.JaccardCrossEntropyLoss(), function, parts))
        assert_whole(checkpointed, plain, values[1], values[0])

    def test_a_compiled_model(self, batch):
        images, labels = batch
        model, alone = network(), network()
        compiled = torch.compile(model, backend="aot_eager", dynamic=True)
        value = jml.accumulate(jml.JaccardMetricLoss(), compiled, pieces(images, labels))
        expected = jml.JaccardMetricLoss()(alone(images), labels)
        expected.backward()
        assert_whole(model, alone, value, expected)

    def test_a_micro_batch_is_freed_before_the_next(self, batch):
        """No two graphs at a time, and none in the first pass."""
        alive, most = weakref.WeakSet(), []

        class Watched(torch.autograd.Function):
            @staticmethod
            def forward(ctx, inputs):
                ctx.set_materialize_grads(True)
                alive.add(ctx)
                most.append(len(alive))
                return inputs.clone()

            @staticmethod
            def backward(ctx, grad):
                return grad

        class Layer(nn.Module):
            def forward(self, inputs):
                return Watched.apply(inputs)

        gc.collect()
        model = network(torch.float64, Layer())
        jml.accumulate(jml.JaccardMetricLoss(), model, pieces(*batch))
        assert len(most) == 8
        assert max(most) == 1


class TestPrecision:
    def test_autocast_around_everything(self, batch):
        """Weights that autocast has cast in the first pass, without a graph, are cast anew."""
        images, labels = batch[0].float(), batch[1]
        loss = jml.JaccardCrossEntropyLoss()
        model, alone = network(torch.float32), network(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            value = jml.accumulate(loss, model, pieces(images, labels))
        with torch.autocast("cpu", torch.bfloat16):
            expected = loss(alone(images), labels)
        expected.backward()
        # bfloat16 rounds the gradient of each micro-batch.
        assert_whole(model, alone, value, expected, tolerance=0.02)

    def test_autocast_within_the_forward_and_a_scaler(self, batch):
        images, labels = batch[0].float(), batch[1]
        loss = jml.JaccardCrossEntropyLoss()
        model, alone = network(torch.float32), network(torch.float32)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

        def forward(inputs: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return model(inputs)

        def backward(value: Tensor) -> None:
            scaler.scale(value).backward()

        value = jml.accumulate(loss, forward, pieces(images, labels), backward=backward)
        scaler.unscale_(optimizer)
        with torch.autocast("cpu", torch.bfloat16):
            logits = alone(images)
        expected = loss(logits, labels)
        expected.backward()
        assert_whole(model, alone, value, expected, tolerance=0.02)
        scaler.step(optimizer)


class TestErrors:
    def test_no_micro_batch(self):
        with pytest.raises(ValueError, match=r"micro_batches=\[\]: expected at least one micro-b"):
            jml.accumulate(jml.JaccardMetricLoss(), network(), [])

    @pytest.mark.parametrize("micro_batches", [torch.zeros(3), 5])
    def test_what_is_no_sequence(self, micro_batches):
        with pytest.raises(TypeError, match=r"micro_batches is a .*: expected a sequence of"):
            jml.accumulate(jml.JaccardMetricLoss(), network(), micro_batches)

    @pytest.mark.parametrize("name", ["loss", "forward", "backward"])
    def test_what_is_no_function(self, batch, name):
        arguments = {"loss": jml.JaccardMetricLoss(), "forward": network(), "backward": print}
        with pytest.raises(TypeError, match=f"{name} is a float: expected a function or module"):
            jml.accumulate(micro_batches=pieces(*batch), **arguments | {name: 0.5})

    def test_a_loss_of_another_library(self, batch):
        with pytest.raises(RuntimeError, match="loss calls no loss of this library"):
            jml.accumulate(nn.CrossEntropyLoss(), network(), pieces(*batch))

    @pytest.mark.parametrize("reduction", ["image", "none"])
    def test_a_loss_of_each_image(self, batch, reduction):
        loss = jml.JaccardMetricLoss(aggregation="image", reduction=reduction)
        with pytest.raises(
            ValueError, match=f"reduction='{reduction}': expected one number of the"
        ):
            jml.accumulate(loss, network(), pieces(*batch))

    def test_a_loss_of_each_class(self, batch):
        loss = jml.JaccardMetricLoss(reduction="none")
        with pytest.raises(
            ValueError, match=r"loss gives a tensor of shape \(4,\): expected one n"
        ):
            jml.accumulate(loss, network(), pieces(*batch))

    def test_other_numbers_of_losses(self, batch):
        loss = jml.JaccardMetricLoss()

        def sometimes(logits: Tensor, target: Tensor) -> Tensor:
            value = loss(logits, target)
            return value + loss(logits, target) if len(logits) == 2 else value

        with pytest.raises(
            RuntimeError, match="loss calls 2 losses in a micro-batch, and 1 in ano"
        ):
            jml.accumulate(sometimes, network(), pieces(*batch))

    @pytest.mark.parametrize("first", [1, 2])
    def test_other_numbers_of_losses_in_the_passes(self, batch, first):
        loss = jml.JaccardMetricLoss()

        def by_pass(logits: Tensor, target: Tensor) -> Tensor:
            count = 3 - first if torch.is_grad_enabled() else first
            return sum(loss(logits, target) for _ in range(count))

        with pytest.raises(
            RuntimeError, match=f"calls {3 - first} losses in the second pass, and {first} in the"
        ):
            jml.accumulate(by_pass, network(), pieces(*batch))

    def test_a_checkpointed_loss(self, batch):
        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return checkpoint(jml.JaccardMetricLoss(), logits, target, use_reentrant=False)

        with pytest.raises(RuntimeError, match="a loss within a checkpoint is called in the back"):
            jml.accumulate(loss, network(), pieces(*batch))

    def test_labels_in_some_micro_batches(self, batch):
        images, labels = batch
        teacher_logits = network()(images).detach()
        micro_batches = [(images, labels, teacher_logits), (images, None, teacher_logits)]
        with pytest.raises(RuntimeError, match="loss has labels or a teacher in a micro-batch, an"):
            jml.accumulate(jml.JaccardDistillationLoss(), network(), micro_batches)

    def test_one_at_a_time(self, batch):
        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return jml.accumulate(jml.JaccardMetricLoss(), nn.Identity(), [(logits, target)])

        with pytest.raises(RuntimeError, match="accumulate is called within accumulate"):
            jml.accumulate(loss, network(), pieces(*batch))

    def test_a_compiled_loss(self, batch):
        """One whole graph cannot hold what happens between the passes."""
        loss = torch.compile(jml.JaccardMetricLoss(), backend="eager", fullgraph=True)
        with pytest.raises(Exception, match="accumulate has a compiled loss"):
            jml.accumulate(loss, network(), pieces(*batch))
