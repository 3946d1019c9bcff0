"""What only a GPU shows of a step: it waits for nothing, can be captured, repeats itself, takes
little memory and few launches. The tests of every backend run there too."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from problems import KINDS, draw, step
from torch.profiler import ProfilerActivity, profile

import jml_kernels as jml
from jml_kernels.memory import allowed_beside, peak_memory
from jml_kernels.selfcheck.on_gpu import capture, waiting_is_an_error

SHAPE = (2, 19, 128, 160)
kinds = pytest.mark.parametrize("kind", KINDS)


def leaf_and_others(kind, shape=SHAPE, dtype=torch.float32, layout="contiguous"):
    logits, *others = draw(kind, shape, dtype, layout)
    return logits.requires_grad_(), others


@kinds
def test_the_host_never_waits(kind, backend):
    logits, others = leaf_and_others(kind)
    loss = KINDS[kind].loss(backend)
    loss(logits, *others).backward()  # compiles
    logits.grad = None
    with waiting_is_an_error():
        loss(logits, *others).backward()
    assert logits.grad is not None


def test_the_debug_mode_sees_who_waits():
    """Without this the test above could not fail."""
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    number = torch.ones((), device="cuda")
    with waiting_is_an_error(), pytest.raises(RuntimeError, match="synchroniz"):
        number.item()


@kinds
def test_a_cuda_graph_captures_a_step(kind, backend):
    logits, others = leaf_and_others(kind)
    loss = KINDS[kind].loss(backend)
    graph, captured = capture(loss, logits, *others)
    for seed in (1, 2):  # what it reads is there at the replay, not at the capture
        with torch.no_grad():
            for old, new in zip((logits, *others), draw(kind, SHAPE, seed=seed), strict=True):
                old.copy_(new)
        graph.replay()
        leaf = logits.detach().clone().requires_grad_()
        again = loss(leaf, *others)
        again.backward()
        assert torch.equal(captured, again)
        assert torch.equal(logits.grad, leaf.grad)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("classes", [2, 19, 150, 1000])
def test_the_same_bits_twice(classes, layout, backend):
    arguments = draw("cross-entropy", (2, classes, 96, 128), layout=layout)
    loss = KINDS["cross-entropy"].loss(backend)
    first = step(loss, *arguments)
    for _ in range(5):  # in whatever order the groups of threads come to an end
        for one, other in zip(first, step(loss, *arguments), strict=True):
            assert torch.equal(one, other)


def test_a_bad_label_is_nan_and_stalls_nobody(backend):
    logits, labels = draw("labels", SHAPE)
    labels[0, 3, 4] = 77
    assert jml.JaccardMetricLoss(backend=backend)(logits, labels).isnan()
    with pytest.raises(IndexError, match="label 77"):
        jml.JaccardMetricLoss(backend=backend, validate=True)(logits, labels)


# ---- memory --------------------------------------------------------------------------------------


peak = functools.partial(peak_memory, device="cuda")
spare = functools.partial(allowed_beside, device="cuda")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(2, 19, 512, 512), (1, 150, 256, 256), (1, 1000, 96, 96)])
def test_peak(shape, layout, backend):
    """Nothing has the logits' size but the gradient, and of that there is one."""
    logits, others = leaf_and_others("labels", shape, layout=layout)
    gradient = logits.numel() * logits.element_size()
    loss = KINDS["labels"].loss(backend)
    loss(logits, *others).backward()  # what is allocated once does not count
    logits.grad = None
    kept = []
    assert peak(lambda: kept.append(loss(logits, *others))) <= spare(shape)
    assert gradient <= peak(kept.pop().backward) <= gradient + spare(shape)
    logits.grad = None
    assert gradient <= peak(lambda: loss(logits, *others).backward()) <= gradient + spare(shape)


@kinds
def test_peak_of_every_kind(kind, backend):
    shape = (2, 19, 512, 512)
    logits, others = leaf_and_others(kind, shape, torch.float16, "channels_last")
    gradient = logits.numel() * logits.element_size()
    loss = KINDS[kind].loss(backend)
    loss(logits, *others).backward()
    logits.grad = None
    assert gradient <= peak(lambda: loss(logits, *others).backward()) <= gradient + spare(shape)


@kinds
def test_peak_of_inplace_backward(kind, backend):
    """No tensor of the logits' size at all."""
    shape = (2, 19, 512, 512)
    logits, others = leaf_and_others(kind, shape)
    loss = KINDS[kind].loss(backend, inplace_backward=True)

    def run():
        (gradient,) = torch.autograd.grad(loss(logits, *others), logits)
        assert gradient.data_ptr() == logits.data_ptr()

    run()
    assert peak(run) <= spare(shape)


# ---- launches ------------------------------------------------------------------------------------


def launches(call, folder) -> tuple[list[str], list[str]]:
    """Names of what a call starts on the GPU: (our kernels, those of PyTorch and all copies)."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        call()
        torch.cuda.synchronize()
    file = folder / "trace.json"
    profiler.export_chrome_trace(str(file))
    # What kind an event is stands in the trace alone.
    events = json.loads(file.read_text())["traceEvents"]
    kernels = [e["name"] for e in events if e.get("cat") == "kernel"]
    copies = [e["name"] for e in events if e.get("cat") in ("gpu_memcpy", "gpu_memset")]
    of_torch = [name for name in kernels if "at::" in name]
    return [name for name in kernels if "at::" not in name], of_torch + copies


@kinds
def test_a_step_is_four_launches(kind, backend, tmp_path):
    logits, others = leaf_and_others(kind)
    loss = KINDS[kind].loss(backend)

    def run():
        logits.grad = None
        loss(logits, *others).backward()

    run()
    launches(run, tmp_path)  # the first trace is late to begin
    ours, rest = launches(run, tmp_path)
    if not ours and not rest:
        pytest.skip("PyTorch's profiler sees no kernels here")
    assert 2 <= len(ours) <= 4, f"{ours}, and of PyTorch {rest}"
    assert not [name for name in rest if "Memcpy" in name], rest
