"""The dtypes that tensors of a case may have."""

from __future__ import annotations

import torch

from ...checks import LOGITS_DTYPES as FLOAT_DTYPES  # noqa: F401, for the lists of cases

INTEGER_DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
