"""What only a GPU shows; the tests of every backend run there too."""

from __future__ import annotations

import pytest
import torch

import jml_kernels as jml

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.skipif(jml.backends()["triton"] is not None, reason=str(jml.backends()["triton"])),
]

MEBIBYTE = 2**20


def problem(shape=(2, 19, 128, 160), dtype=torch.float32, layout="contiguous"):
    torch.manual_seed(0)
    logits = torch.randn(shape, device="cuda").to(dtype)
    if layout == "channels_last":
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), device="cuda")
    return logits.requires_grad_(), labels


def objectives():
    return {
        "loss": jml.JaccardMetricLoss(backend="triton"),
        "boundary": jml.JaccardMetricLoss(label_smoothing=0.1, boundary_size=3, backend="triton"),
        "cross-entropy": jml.JaccardCrossEntropyLoss(backend="triton"),
        "aggregations": jml.JaccardMetricLoss(
            aggregation={"image": 0.5, "class": 0.5}, gamma=1.5, backend="triton"
        ),
    }


@pytest.mark.parametrize("name", objectives())
def test_the_host_never_waits(name):
    logits, labels = problem()
    loss = objectives()[name]
    loss(logits, labels).backward()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(logits, labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", objectives())
def test_a_cuda_graph_captures_a_step(name):
    logits, labels = problem()
    loss = objectives()[name]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            logits.grad = None
            loss(logits, labels).backward()
    torch.cuda.current_stream().wait_stream(side)
    logits.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = loss(logits, labels)
        captured.backward()
    with torch.no_grad():
        logits.copy_(torch.randn_like(logits))
    graph.replay()
    leaf = logits.detach().clone().requires_grad_()
    expected = loss(leaf, labels)
    expected.backward()
    assert torch.equal(captured, expected)
    assert torch.equal(logits.grad, leaf.grad)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("classes", [2, 19, 150, 1000])
def test_the_same_bits_twice(classes, layout):
    logits, labels = problem((2, classes, 96, 128), layout=layout)
    loss = objectives()["loss"]
    gradients = [torch.autograd.grad(loss(logits, labels), logits)[0] for _ in range(2)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(2, 19, 512, 512), (1, 150, 256, 256), (1, 1000, 96, 96)])
def test_peak(shape, layout):
    """Partial sums are 4 MiB at most, and nothing has the logits' size but the gradient."""
    logits, labels = problem(shape, layout=layout)
    loss = objectives()["loss"]
    loss(logits, labels).backward()
    logits.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    loss(logits, labels).backward()
    grown = torch.cuda.max_memory_allocated() - before
    assert grown <= logits.numel() * 4 + 5 * MEBIBYTE + 1024 * shape[0] * shape[1]


def test_more_than_2_to_the_31_elements():
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of memory")
    shape = (1, 2, 2**15 + 8, 2**15)
    logits = torch.zeros(shape, dtype=torch.float16, device="cuda")
    logits[:, :, -1] = 1.0  # past 2^31
    logits[:, 1, -1] = 3.0
    labels = torch.zeros(1, *shape[2:], dtype=torch.uint8, device="cuda")
    labels[:, -1] = 1
    statistics = jml.class_statistics(logits, labels, backend="triton")
    share = torch.tensor(2.0).sigmoid().item()
    assert statistics.true_positive[0, 1].item() == pytest.approx(2**15 * share, rel=1e-5)


def test_a_bad_label_is_nan_and_stalls_nobody():
    logits, labels = problem()
    labels[0, 3, 4] = 77
    assert objectives()["loss"](logits, labels).isnan()
    with pytest.raises(IndexError, match="label 77"):
        jml.JaccardMetricLoss(backend="triton", validate=True)(logits, labels)
