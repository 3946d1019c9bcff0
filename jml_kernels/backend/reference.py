"""The reference backend: plain PyTorch (jml_kernels/reference.py), on any device."""

from __future__ import annotations

from .record import Backend

BACKEND = Backend(name="reference", device=None, device_in_words="any device", upsamples=True)
