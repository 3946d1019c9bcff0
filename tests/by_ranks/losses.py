"""Every loss and objective with process_group: value and gradient of the logits on each rank, where
ranks have different numbers of images, none, images without a valid pixel, or other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from ranks import TOLERANCE, Finding, relative
from torch import Tensor

import jml_kernels as jml

C, SIZE = 4, (6, 5)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.25])
MIXED = {"dataset": 0.5, "image": 0.3, "class": 0.2}
AGGREGATIONS = ("dataset", "image", "class", MIXED)

#: name -> a loss, by its options, called with logits, labels, probabilities and a teacher.
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def of_labels(kind: type, **own) -> Callable[..., Loss]:
    def make(**options) -> Loss:
        loss = kind(**own, **options)
        return lambda logits, labels, probabilities, teacher: loss(logits, labels)

    return make


def of_probabilities(kind: type, **own) -> Callable[..., Loss]:
    def make(**options) -> Loss:
        loss = kind(**own, **options)
        return lambda logits, labels, probabilities, teacher: loss(logits, probabilities)

    return make


def of_teacher(has_labels: bool, **own) -> Callable[..., Loss]:
    def make(**options) -> Loss:
        loss = jml.JaccardDistillationLoss(**own, **options)
        return lambda logits, labels, probabilities, teacher: loss(
            logits, labels if has_labels else None, teacher
        )

    return make


LOSSES: dict[str, Callable[..., Loss]] = {
    "jml1": of_labels(jml.JaccardMetricLoss),
    "jml2, soft target": of_probabilities(jml.JaccardMetricLoss, variant=2),
    "soft jaccard, L2": of_labels(jml.SoftJaccardLoss, norm=2),
    "dice": of_labels(jml.DiceSemimetricLoss, active_classes="all", smooth=1.0),
    "soft dice": of_probabilities(jml.SoftDiceLoss, active_classes="present"),
    "tversky": of_labels(jml.TverskyMetricLoss, alpha=0.3, beta=0.7, gamma=1.5),
    "log": of_labels(jml.JaccardMetricLoss, log_loss=True, active_classes="both"),
    "weights": of_labels(
        jml.JaccardMetricLoss, class_weights=WEIGHTS, weighted_mean=True, active_classes="prob"
    ),
    "classes": of_labels(jml.JaccardMetricLoss, classes=[1, 3], inactive_loss=0.5),
    "sum": of_labels(jml.JaccardMetricLoss, reduction="sum"),
    "sigmoid": of_labels(jml.JaccardCrossEntropyLoss, activation="sigmoid"),
    "objective": of_labels(jml.JaccardCrossEntropyLoss, label_smoothing=0.2),
    "objective, boundary": of_labels(
        jml.JaccardCrossEntropyLoss,
        label_smoothing=0.3,
        boundary_size=3,
        ce_class_weights=WEIGHTS,
        class_weights=WEIGHTS,
    ),
    "objective, soft": of_probabilities(jml.JaccardCrossEntropyLoss, ce_class_weights=WEIGHTS),
    "distillation": of_teacher(True, temperature=2.0, ce_class_weights=WEIGHTS),
    "divergence": of_teacher(False, distillation="kl", student_temperature=2.0),
    "reference": of_labels(jml.JaccardCrossEntropyLoss, backend="reference"),
}


def images_of(layout: str, rank: int, world_size: int) -> list[int]:
    """How many images each rank has."""
    counts = [2 + r for r in range(world_size)]
    if layout == "an empty rank":
        counts[1] = 0
    return counts


def drawn(count: int, dtype: torch.dtype, lower: int = 1) -> tuple[Tensor, ...]:
    """Logits, labels, probabilities and a teacher's logits, the same on every rank."""
    generator = torch.Generator().manual_seed(7)
    low = [n // lower for n in SIZE]
    logits = 2 * torch.randn(count, C, *low, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, C - 1, (count, *SIZE), generator=generator)
    labels[0, 0] = C - 1  # a class that one image has
    labels[-1, 1, :2] = -100
    soft = torch.randn(count, C, *SIZE, generator=generator, dtype=torch.float64).softmax(1)
    teacher = torch.randn(count, C, *low, generator=generator, dtype=torch.float64)
    return logits.to(dtype), labels, soft.to(dtype), teacher.to(dtype)


def differences(
    make: Callable[..., Loss],
    options: dict,
    gradients: str,
    tensors: tuple[Tensor, ...],
    own: slice,
    world_size: int,
) -> tuple[float, float]:
    """Of this rank's value and gradient from those of one process with all tensors."""
    logits, *targets = tensors
    whole = logits.clone().requires_grad_()
    expected = make(**options)(whole, *targets)
    expected.sum().backward()
    part = logits[own].clone().requires_grad_()
    value = make(process_group=True, gradients=gradients, **options)(
        part, *(target[own] for target in targets)
    )
    value.sum().backward()
    shares = world_size if gradients == "averaged" else 1
    # Relative to the whole gradient: a rank may have next to none of it.
    scale = whole.grad.double().norm().item()
    difference = (part.grad.double() / shares - whole.grad[own].double()).norm().item()
    if value.dim():  # of the images, which are the rank's own
        expected = expected[own]
    return (value - expected).abs().double().sum().item(), difference / scale


#: (layout, dtype, upsample): layouts differ in what is added up, and not in how logits are read.
SETTINGS = (
    ("uneven", torch.float64, None),
    ("uneven", torch.float32, None),
    ("uneven", torch.float64, "bilinear"),
    ("an empty rank", torch.float64, None),
    ("an ignored rank", torch.float64, None),
)
#: Labels of a rank may all be ignored: these losses have none.
OF_PROBABILITIES = ("jml2, soft target", "soft dice", "objective, soft")


def compare(rank: int, world_size: int) -> Iterator[Finding]:
    for layout, dtype, upsample in SETTINGS:
        counts = images_of(layout, rank, world_size)
        own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        tensors = drawn(sum(counts), dtype, lower=2 if upsample else 1)
        names = list(LOSSES)
        if layout == "an ignored rank":
            tensors[1][: counts[0]] = -100
            names = [name for name in LOSSES if name not in OF_PROBABILITIES]
        for name in names:
            for aggregation in AGGREGATIONS:
                options = {"aggregation": aggregation, "upsample": upsample}
                gradients = "summed" if name == "dice" else "averaged"
                errors = differences(LOSSES[name], options, gradients, tensors, own, world_size)
                where = f"{name}, {aggregation}, {dtype}, {upsample}, {layout}"
                yield Finding(where, *errors, TOLERANCE[dtype])
    yield from _per_image(rank, world_size)
    yield from _other_sizes(rank, world_size)
    yield from _authors_loss(rank, world_size)
    yield from _penalty(rank, world_size)


def _per_image(rank: int, world_size: int) -> Iterator[Finding]:
    """What a reduction gives of each image is of the rank's own images; of each class it is that of
    the batch."""
    counts = images_of("uneven", rank, world_size)
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    logits, labels, *_ = drawn(sum(counts), torch.float64)
    for options in (
        {"reduction": "image", "aggregation": "image"},
        {"reduction": "none", "aggregation": "image"},
        {"reduction": "none", "aggregation": "dataset"},
        {"reduction": "none", "aggregation": "class"},
    ):
        expected = jml.JaccardMetricLoss(**options)(logits, labels)
        of_rank = jml.JaccardMetricLoss(process_group=True, **options)(logits[own], labels[own])
        if options["aggregation"] == "image":
            expected = expected[own]
        error = (of_rank - expected).abs().sum().item()
        yield Finding(f"{options}", error, 0.0, 1e-12)


def _other_sizes(rank: int, world_size: int) -> Iterator[Finding]:
    """Ranks with images of different sizes: one process has them with ignored borders."""
    logits, labels, *_ = drawn(2 * world_size, torch.float64)
    for r in range(world_size):  # rank r has 6 - r rows and 5 - r columns
        labels[2 * r : 2 * r + 2, SIZE[0] - r :] = -100
        labels[2 * r : 2 * r + 2, :, SIZE[1] - r :] = -100
    own = slice(2 * rank, 2 * rank + 2)
    crop = (..., slice(SIZE[0] - rank), slice(SIZE[1] - rank))
    for aggregation in AGGREGATIONS:
        whole = logits.clone().requires_grad_()
        expected = jml.JaccardCrossEntropyLoss(aggregation=aggregation)(whole, labels)
        expected.backward()
        part = logits[own][crop].clone().requires_grad_()
        loss = jml.JaccardCrossEntropyLoss(aggregation=aggregation, process_group=True)
        value = loss(part, labels[own][crop])
        value.backward()
        error = relative(part.grad / world_size, whole.grad[own][crop])
        yield Finding(f"sizes, {aggregation}", (value - expected).abs().item(), error, 1e-12)


def _authors_loss(rank: int, world_size: int) -> Iterator[Finding]:
    logits, labels, *_ = drawn(2 * world_size, torch.float64)
    own = slice(2 * rank, 2 * rank + 2)
    weights = {"mIoUD": 0.5, "mIoUI": 0.3, "mIoUC": 0.2, "ignore_index": -100}
    expected = jml.JDTLoss(**weights)(logits, labels)
    value = jml.JDTLoss(**weights, process_group=True)(logits[own], labels[own])
    yield Finding("JDTLoss", (value - expected).abs().item(), 0.0, 1e-12)


def _penalty(rank: int, world_size: int) -> Iterator[Finding]:
    """A penalty on gradients: the adjoint of what ranks add up differs from rank to rank."""

    def gradient(loss: Callable, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.autograd.grad(loss(logits, labels), logits, create_graph=True)[0]

    logits, labels, *_ = drawn(2 * world_size, torch.float64)
    own = slice(2 * rank, 2 * rank + 2)
    whole, part = logits.clone().requires_grad_(), logits[own].clone().requires_grad_()
    gradient(jml.JaccardMetricLoss(backend="reference"), whole, labels).square().sum().backward()
    loss = jml.JaccardMetricLoss(backend="reference", process_group=True)
    (gradient(loss, part, labels[own]) / world_size).square().sum().backward()
    error = (part.grad - whole.grad[own]).norm().item() / whole.grad.norm().item()
    yield Finding("penalty", 0.0, error, 1e-12)
    loss = jml.JaccardMetricLoss(backend="reference", process_group=True, gradients="summed")
    try:
        gradient(loss, part, labels[own])
    except RuntimeError as error:
        is_refused = "gradients='summed'" in str(error)
    else:
        is_refused = False
    yield Finding("penalty, summed, is refused", 0.0 if is_refused else 1.0, 0.0, 0.0)
