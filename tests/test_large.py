"""Elements more than 2^31 apart: every offset is computed in 64 bits.

The tensors are views that touch few pages of a storage that is never written: they cost
neither the memory nor the time of one that large.
"""

from __future__ import annotations

import pytest
import torch
from operators import operator_arguments

from jml_kernels.selfcheck.corpus.losses import OVERLAPS
from jml_kernels.statistics import SUMS, TOTALS, column_bits

FAR = 2**31 + 11
SHAPE = (2, 3, 4, 5)  # (N, C, H, W)


def far_apart(values: torch.Tensor, dim: int) -> torch.Tensor:
    """The same values, with neighbours along `dim` FAR apart."""
    strides = list(values.stride())
    strides[dim] = FAR
    extent = 1 + sum((n - 1) * s for n, s in zip(values.shape, strides, strict=True))
    try:
        storage = torch.empty(extent, dtype=values.dtype)
    except RuntimeError:
        pytest.skip("no address space for such a tensor")
    return storage.as_strided(values.shape, strides).copy_(values)


@pytest.mark.parametrize("dim", range(4), ids=["images", "classes", "rows", "columns"])
@pytest.mark.parametrize("kind", ["labels", "boundary", "soft", "mask"])
def test_offsets(dim, kind, backend, device):
    if device != "cpu":
        pytest.skip("GPU memory is not allocated page by page")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator).half()
    labels = torch.randint(0, 3, (2, 4, 5), generator=generator, dtype=torch.uint8)
    target = torch.rand(SHAPE, generator=generator).half() if kind == "soft" else labels
    mask = torch.rand(2, 4, 5, generator=generator) < 0.7 if kind == "mask" else None
    options = {"label_smoothing": 0.1, "boundary_size": 3} if kind == "boundary" else {}

    def step(*arguments):
        leaf = arguments[0].detach().requires_grad_()
        loss = OVERLAPS["metric1"](leaf, *arguments[1:], backend=backend, **options)
        return loss.detach(), *torch.autograd.grad(loss, leaf, torch.tensor(64.0))

    right, gradient = step(logits, target, mask)
    # One at a time: each alone is several GiB of address space.
    for i, tensor in enumerate((logits, target, mask)):
        if tensor is None or (tensor.dim() == 3 and dim == 1):
            continue
        without_classes = tensor.dim() == 3 and dim > 1
        arguments = [logits, target, mask]
        arguments[i] = far_apart(tensor, dim - without_classes)
        loss, same_gradient = step(*arguments)
        assert loss == right
        assert torch.equal(same_gradient, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["labels", "boundary", "soft", "sigmoid", "odd"])
def test_a_gradient_larger_than_caches(dtype, kind, compiled, device):
    """It may be written in another way; an image's gradient is the same as on its own."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 19, 301, 317) if kind == "odd" else (3, 19, 300, 320)  # 3 x 7 MB in float32
    logits = torch.randn(shape, generator=generator, dtype=dtype).to(device)
    blocks = torch.randint(0, 19, (3, 10, 10), generator=generator)
    labels = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, : shape[2], : shape[3]]
    dense = torch.rand(shape, generator=generator, dtype=dtype).to(device)
    smoothing = (0.1, 3) if kind == "boundary" else (0.0, 0)
    activation = "sigmoid" if kind == "sigmoid" else "softmax"
    grads = {
        "grad_sums": torch.rand(1, len(SUMS), 3, 19, generator=generator, dtype=torch.float64),
        "grad_totals": torch.rand(1, len(TOTALS), 3, generator=generator, dtype=torch.float64),
    }
    if kind != "soft":
        # Without squares the gradient of hard labels is simpler, and so without cross-entropy.
        grads["grad_sums"][:, SUMS.index("prediction_squared")] = 0
        grads["grad_totals"][:] = 0
    columns = column_bits(*SUMS, *(["cross_entropy"] if kind == "soft" else []))
    backward = getattr(torch.ops.jml_kernels, f"{compiled}_statistics_backward")

    def gradient(images):
        targets = (None, dense[images]) if kind == "soft" else (labels.to(device)[images], None)
        return backward(
            **{name: grad[:, :, images].contiguous().to(device) for name, grad in grads.items()},
            **operator_arguments(
                logits[images],
                *targets,
                label_columns=columns,
                dense_columns=columns,
                activation=activation,
                label_smoothing=smoothing[0],
                boundary_size=smoothing[1],
            ),
        )

    alone = [gradient(slice(i, i + 1)) for i in range(3)]
    assert torch.equal(gradient(slice(0, 3)), torch.cat(alone))
