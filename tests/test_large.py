"""Elements more than 2^31 apart: every offset is computed in 64 bits.

The tensors are views that touch few pages of a storage that is never written: they cost
neither the memory nor the time of one that large.
"""

from __future__ import annotations

import pytest
import torch
from cases import OVERLAPS

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
