"""What a training script has around a loss: gradient checkpointing, a gradient scaler, a whole step
that is compiled or exported."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import jml_kernels as jml

C, SIZE = 4, (8, 6)
pytestmark = pytest.mark.usefixtures("one_thread")

#: name -> (loss of a backend, what it is called with after the logits).
LOSSES: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "jml": (jml.JaccardMetricLoss, ("labels",)),
    "soft": (lambda **o: jml.DiceSemimetricLoss(aggregation="image", **o), ("soft",)),
    "objective": (
        lambda **o: jml.JaccardCrossEntropyLoss(
            label_smoothing=0.2, boundary_size=3, class_weights=[1.0, 2.0, 3.0, 4.0], **o
        ),
        ("labels", "mask"),
    ),
    "distillation": (jml.JaccardDistillationLoss, ("labels", "teacher")),
    "upsampled": (lambda **o: jml.JaccardMetricLoss(upsample="bilinear", **o), ("large",)),
    "of each class": (lambda **o: jml.JaccardMetricLoss(reduction="none", **o), ("labels",)),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


class Step(nn.Module):
    """A network and its loss, as one module."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, C, 1))
        self.loss = loss

    def forward(self, images: Tensor, *targets: Tensor) -> Tensor:
        return self.loss(self.network(images), *targets).sum()


def drawn(name: str, device: str, count: int = 3) -> tuple[Tensor, ...]:
    """Images, and the targets that the loss of this name takes."""
    generator = torch.Generator().manual_seed(count)
    large = (count, *(2 * n for n in SIZE))
    targets = {
        "labels": torch.randint(0, C, (count, *SIZE), generator=generator),
        "large": torch.randint(0, C, large, generator=generator),
        "soft": torch.rand(count, C, *SIZE, generator=generator).softmax(1),
        "teacher": torch.randn(count, C, *SIZE, generator=generator),
        "mask": torch.rand(count, *SIZE, generator=generator) > 0.2,
    }
    images = torch.randn(count, 3, *SIZE, generator=generator)
    return tuple(t.to(device) for t in (images, *(targets[kind] for kind in LOSSES[name][1])))


def step_of(name: str, backend: str, device: str) -> Step:
    return Step(LOSSES[name][0](backend=backend)).to(device)


def gradient(module: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def assert_same_step(step: nn.Module, value: Tensor, other: nn.Module, expected: Tensor) -> None:
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient(step), gradient(other))


@each_loss
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_around_network_and_loss(name, use_reentrant, backend, device):
    images, *targets = drawn(name, device)
    step = step_of(name, backend, device)
    plain = copy.deepcopy(step)
    expected = plain(images, *targets)
    expected.backward()
    value = checkpoint(step, images.requires_grad_(), *targets, use_reentrant=use_reentrant)
    value.backward()
    assert_same_step(step, value, plain, expected)


@each_loss
def test_a_gradient_scaler_leaves_out_what_overflows(name, backend, device):
    images, *targets = drawn(name, device)
    step = step_of(name, backend, device)
    plain = copy.deepcopy(step)
    expected = plain(images, *targets)
    expected.backward()
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**127, backoff_factor=2.0**-100)
    before = copy.deepcopy(step.state_dict())

    def scaled_step() -> Tensor:
        optimizer.zero_grad()
        value = step(images, *targets)
        scaler.scale(value * 8).backward()  # infinite at first
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        return value

    scaled_step()
    assert all(torch.equal(before[key], kept) for key, kept in step.state_dict().items())
    value = scaled_step()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient(step), 8 * gradient(plain))
    assert not torch.equal(before["network.0.weight"], step.network[0].weight)


@each_loss
def test_a_whole_step_is_one_graph_for_every_size_of_batch(name, compiled, device):
    """No graph break, and no second graph where the number of images changes."""
    step = step_of(name, compiled, device)
    plain = copy.deepcopy(step)
    torch.compiler.reset()
    graphs = []

    def counting(graph, _):
        graphs.append(graph)
        return graph.forward

    whole = torch.compile(step, fullgraph=True, dynamic=True, backend=counting)
    for count in (5, 7, 2):  # none is another size, which would stand for it
        images, *targets = drawn(name, device, count)
        for module in (step, plain):
            module.zero_grad()
        expected = plain(images, *targets)
        expected.backward()
        value = whole(images, *targets)
        value.backward()
        assert_same_step(step, value, plain, expected)
    assert len(graphs) == 1


@each_loss
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_is_exported(name, strict, backend, device):
    """With any number of images."""
    images, *targets = drawn(name, device)
    step = step_of(name, backend, device)
    any_number = {0: torch.export.Dim("n")}
    sizes = {"images": any_number, "targets": tuple(any_number for _ in targets)}
    program = torch.export.export(step, (images, *targets), dynamic_shapes=sizes, strict=strict)
    for count in (3, 5):
        images, *targets = drawn(name, device, count)
        value = program.module()(images, *targets)
        torch.testing.assert_close(value, step(images, *targets))
    operators = {str(node.target) for node in program.graph.nodes}
    if backend != "reference":
        assert any(operator.startswith(f"jml_kernels.{backend}_") for operator in operators)


@each_loss
def test_an_exported_step_is_saved(name, tmp_path):
    images, *targets = drawn(name, "cpu")
    step = step_of(name, "auto", "cpu")
    file = tmp_path / "step.pt2"
    torch.export.save(torch.export.export(step, (images, *targets), strict=False), file)
    value = torch.export.load(file).module()(images, *targets)
    torch.testing.assert_close(value, step(images, *targets))
