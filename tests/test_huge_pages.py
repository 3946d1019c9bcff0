"""The gradient of large logits lies in huge pages, where the system gives them to those who ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import jml_kernels as jml

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MAPPINGS = Path("/proc/self/smaps")
HUGE_PAGE = 2 * 1024 * 1024


def gradient_of(pixels: int) -> Tensor:
    """The gradient of logits (1, 4, pixels), which is right, and fresh memory."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, pixels, generator=generator).requires_grad_()
    labels = torch.randint(4, (1, pixels), generator=generator)
    jml.JaccardMetricLoss(backend="cpu")(logits, labels).backward()
    exact = logits.detach().double().requires_grad_()
    jml.JaccardMetricLoss(backend="reference")(exact, labels).backward()
    error = (logits.grad - exact.grad).norm() / exact.grad.norm()
    assert error < 1e-5
    return logits.grad


def has_asked(address: int) -> bool:
    """Whether huge pages were asked for where the address lies: the flag "hg" of its mapping."""
    inside = False
    for line in MAPPINGS.read_text().splitlines():
        first = line.split(" ", 1)[0]
        if "-" in first and not first.endswith(":"):
            begin, end = (int(number, 16) for number in first.split("-"))
            inside = begin <= address < end
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError(f"no mapping holds the address {address:#x}")


@pytest.fixture(autouse=True)
def _system():
    if not (SETTING.exists() and MAPPINGS.exists()):
        pytest.skip("this system has no huge pages, or does not list its mappings")
    if "[never]" in SETTING.read_text():
        pytest.skip("this system gives no huge pages")


def test_a_large_gradient_asks_for_huge_pages():
    gradient = gradient_of(32 * HUGE_PAGE // 16)  # 64 MiB: memory that malloc maps for it alone
    assert gradient.nbytes == 32 * HUGE_PAGE
    assert has_asked(gradient.data_ptr() + gradient.nbytes // 2)


def test_a_small_gradient_does_not_ask():
    gradient = gradient_of(HUGE_PAGE // 16)  # 2 MiB: it may hold no huge page at all
    assert gradient.nbytes == HUGE_PAGE
    assert not has_asked(gradient.data_ptr() + gradient.nbytes // 2)
