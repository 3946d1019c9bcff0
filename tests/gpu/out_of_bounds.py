"""A kernel that writes the element past the end of a tensor: a tool that does not report it sees
nothing. For test_sanitizer.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def store_kernel(pointer, index):
    tl.store(pointer + index, 1.0)


if __name__ == "__main__":
    tensor = torch.zeros(1000, device="cuda")
    store_kernel[(1,)](tensor, tensor.numel())
    torch.cuda.synchronize()
