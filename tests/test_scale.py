"""One loss over many ranks, without them: what docs/scale.md promises and counts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

import jml_kernels as jml

ROOT = Path(__file__).parents[1]
# Last: an installed package must not be hidden by its sources.
sys.path.append(str(ROOT))

from benchmarks.scale import agreement, latency, orders, published, traffic  # noqa: E402
from benchmarks.scale.cases import (  # noqa: E402
    AGGREGATIONS,
    OBJECTIVES,
    ignores_everything,
    images_of,
    uneven_batch,
    whole,
)
from benchmarks.scale.ranks import loss_of_ranks, simulated_group, sums_of_ranks  # noqa: E402

RANKS = 64

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- the batch of all ranks ----------------------------------------------------------------------


#: The first is two of them at once.
@pytest.mark.parametrize("aggregation", ["dataset and image", "class"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_64_ranks_in_any_order_are_the_whole_batch(objective, aggregation):
    parts = [objective.arguments(part) for part in uneven_batch(RANKS, classes=5, size=8)]
    logits, *others = whole(parts)
    leaf = logits.requires_grad_()
    expected = objective.loss(aggregation)(leaf, *others)
    (gradient,) = torch.autograd.grad(expected, leaf)
    with simulated_group(RANKS) as group:
        loss = objective.loss(aggregation, process_group=group, gradients="summed")
        sums = sums_of_ranks(loss, parts)
        for order in orders.every_order(12):
            value, _ = loss_of_ranks(loss, parts[:1], order(sums))
            torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
        _, gradients = loss_of_ranks(loss, parts, orders.ring(sums))
    assert (gradients - gradient).norm() <= 1e-12 * gradient.norm()


def test_ranks_are_uneven():
    """The batch that is looked at has what a real one may have."""
    images = images_of(RANKS)
    assert {0, 1, 2, 3} == set(images)
    assert any(ignores_everything(rank) and images[rank] for rank in range(RANKS))
    parts = uneven_batch(RANKS, classes=5, size=8)
    assert [len(logits) for logits, *_ in parts] == images
    assert any(len(labels) and (labels == -100).all() for _, labels, _ in parts)


def test_pieces_of_images_are_whole_images():
    """Spatial parallelism: of the whole batch as one image it is all the same how it is cut."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 5, 8, 12), generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (2, 8, 12), generator=generator)
    pieces = list(zip(logits.split(3, dim=-1), labels.split(3, dim=-1), strict=True))
    with simulated_group(len(pieces)) as group:
        loss = jml.JaccardCrossEntropyLoss(process_group=group, gradients="summed")
        total = orders.chain(sums_of_ranks(loss, pieces))
        value, _ = loss_of_ranks(loss, pieces, total)
    expected = jml.JaccardCrossEntropyLoss()(logits, labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


def test_two_orders_of_a_sum_are_within_the_bound():
    generator = torch.Generator().manual_seed(0)
    parts = torch.rand((RANKS, 1000), generator=generator, dtype=torch.float64) ** 8
    totals = torch.stack([order(parts) for order in orders.every_order(12)])
    apart = (totals.amax(0) - totals.amin(0)) / totals.amax(0)
    assert len(totals.unique(dim=0)) > 1
    assert apart.max() <= agreement.bound(RANKS)


@pytest.mark.parametrize("order", orders.NAMED)
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 13, 64])
def test_an_order_adds_every_rank_once(order, ranks):
    parts = torch.arange(ranks * 5, dtype=torch.float64).reshape(ranks, 5)
    assert torch.equal(order(parts), parts.sum(0))


# ---- what is handed over -------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("objective", traffic.OBJECTIVES, ids=lambda objective: objective.name)
def test_bytes_depend_on_classes_alone(objective, aggregation):
    found = set()
    for ranks in (2, 1024):
        with simulated_group(ranks) as group:
            for images in (0, 5):
                averaged, summed = (
                    traffic.step(
                        objective, aggregation, images, 7, process_group=group, gradients=gradients
                    )
                    for gradients in ("averaged", "summed")
                )
                assert summed[:2] == (averaged[0], [])
                assert averaged[0] == averaged[1]
                found.add(tuple(averaged[0]))
    ((size,),) = found  # one collective
    assert size <= 8 * 2 * (4 * 7 + 8)


def test_one_rank_needs_no_collective():
    (objective, *_) = traffic.OBJECTIVES
    assert traffic.step(objective, "dataset", 2, 7)[:2] == ([], [])
    with simulated_group(1) as group:
        assert traffic.step(objective, "dataset", 2, 7, process_group=group)[:2] == ([], [])


# ---- latency -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", published.MEASURED, ids=lambda point: f"{point.ranks} GPUs")
def test_latency_is_near_times_that_did_not_go_into_it(point):
    model = latency.all_reduce_time(point.bytes, point.ranks, point.per_node, point.link)
    assert model == pytest.approx(point.time, rel=0.25)


def test_latency_of_256_gpus():
    """The largest published point, 62.99 us."""
    assert latency.all_reduce_time(8, 256) == pytest.approx(62.99, rel=0.05)
    assert latency.HELD_UP_TO == 256


def test_latency_is_nccls_own_estimate():
    """The formula is read rightly: NCCL logs 25.21 and 26.55 us for 16 GPUs in 2 nodes."""
    assert latency.all_reduce_time(128, 16) == pytest.approx(25.214764, rel=2e-3)
    assert latency.all_reduce_time(8192, 16) == pytest.approx(26.549810, rel=2e-3)


def test_every_figure_of_others_has_a_source():
    points = (*published.MEASURED, *published.ELSEWHERE, *published.STEPS)
    assert {point.source for point in points} < set(published.SOURCES)
    assert all(source.where.startswith("https://") for source in published.SOURCES)


# ---- the page ------------------------------------------------------------------------------------


@pytest.fixture
def alone():
    """A default group of one rank."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_code_for_many_ranks_runs():
    """The blocks of the page that need a process group, with a network and a batch."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```py\n(.*?)^```", page, re.S | re.M)
    assert len(blocks) == 3
    for block in blocks:
        names = {
            "jml": jml,
            "network": torch.nn.Conv2d(3, 4, kernel_size=1),
            "images": torch.randn(2, 3, 8, 8),
            "logits": torch.randn(2, 4, 8, 8, requires_grad=True),
            "labels": torch.randint(4, (2, 8, 8)),
            "device": "cpu",
            "ranks": 1,
        }
        exec(compile(block, "scale.md", "exec"), names)
        assert names["loss"] > 0
        learns = names["model"].parameters() if "model" in names else [names["rows"]]
        assert all(weight.grad is not None for weight in learns)
