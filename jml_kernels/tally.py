"""What metrics count of a batch: the operators, and the call that checks and chooses one.

    logits, labels -> jml_kernels::<backend>_tally -> Tally of a batch, integers
                   -> added to a state             -> scores.py

One pass over the logits makes predictions, confidences and histograms; what boundaries need is a
second pass over labels and predictions, which are maps of small integers. Nothing of the logits'
size is written, and nothing makes the host wait for a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import checks, option_checks, reference_tally
from .backend import BY_NAME, choose
from .ops import NAMESPACE, library, operator_of
from .options import TargetOptions
from .packing import NEVER, TallyInts
from .reference_tally import BIN_COLUMNS, IMAGE_ROWS
from .upsampling import interpolated


class Tally(NamedTuple):
    """int64 tensors; see `reference_tally.tally`."""

    of_images: Tensor
    confusion: Tensor
    calibration: Tensor
    classwise: Tensor
    wrong: Tensor


_OUTPUTS = ", ".join(f"Tensor {name}" for name in Tally._fields)
_SCHEMA = f"(Tensor logits, Tensor labels, Tensor? mask, int[] tally_ints) -> ({_OUTPUTS})"


def _fake_tally(logits, labels, mask, tally_ints):
    ints = TallyInts(*tally_ints)
    n, c = logits.shape[:2]
    is_sigmoid = checks.ACTIVATIONS[ints.activation] == "sigmoid"
    shapes = (
        (n, len(IMAGE_ROWS), c),
        (c, 2, 2) if is_sigmoid else (c, c),
        (2, ints.bins, len(BIN_COLUMNS)),
        (c, ints.bins, len(BIN_COLUMNS)),
        (1,),
    )
    return tuple(logits.new_empty(shape, dtype=torch.int64) for shape in shapes)


def _define(backend: str) -> Callable[..., tuple[Tensor, ...]]:
    library.define(f"{backend}_tally{_SCHEMA}")
    torch.library.register_fake(f"{NAMESPACE}::{backend}_tally", _fake_tally, lib=library)
    return operator_of(f"{backend}_tally")


#: backend -> its operator, of the logits, labels, mask and `packing.TallyInts`.
TALLIES: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "reference": reference_tally.tally,
    **{backend.name: _define(backend.name) for backend in BY_NAME.values() if backend.tallies},
}


@dataclass(frozen=True)
class TallyOptions(TargetOptions):
    """What is counted, on top of `TargetOptions`, by which logits and labels are read. Nothing is
    smoothed, and nothing has a gradient; activation is "softmax", or "sigmoid" for independent
    classes.

    Attributes:
        bins: how many bins of probabilities there are; >= 1.
        boundary_size: k, odd: a boundary pixel's k x k (k, k x k x k) window holds another label;
            None: boundaries are not looked for.
        calibration, classwise: whether confidences, and the probabilities of every class, are
            binned.
    """

    boundary_size: int | None = 3
    bins: int = 10
    calibration: bool = True
    classwise: bool = True

    def __post_init__(self):
        super().__post_init__()
        for name in ("calibration", "classwise"):
            self._check(name, option_checks.boolean)
        self._check("bins", option_checks.integer)
        if self.bins < 1:
            raise ValueError(f"bins={self.bins!r}: expected an integer >= 1")
        option_checks.check_choice("activation", self.activation, ("softmax", "sigmoid"))

    @property
    def ints(self) -> TallyInts:
        return TallyInts(
            checks.ACTIVATIONS.index(self.activation),
            self.bins,
            self.boundary_size or 0,
            NEVER if self.ignore_index is None else self.ignore_index,
            int(self.upsample is not None),
            int(self.align_corners),
            int(self.calibration),
            int(self.classwise),
        )


def tally(logits: Tensor, labels: Tensor, mask: Tensor | None, options: TallyOptions) -> Tally:
    """What metrics count of a batch.

    Args:
        logits: (N, C, *spatial), as those of the losses; no gradient is made.
        labels: integers (N, *spatial) of any integer dtype. With activation="sigmoid" integers 0
            and 1, (N, C, *spatial), or (N, *spatial) for one class.
        mask: bool (N, *spatial), True where a pixel counts.

    Raises:
        TypeError, ValueError: for an argument of the wrong kind, naming it.
        IndexError: for a label out of range, on the CPU or with validate; elsewhere `wrong` counts
            them, and they are left out.
        RuntimeError: for a backend that cannot run here, saying why.
    """
    logits = checks.checked_logits(logits, options).detach()
    labels = _checked_labels(labels, logits, options)
    size = labels.shape[2 if options.activation == "sigmoid" else 1 :]
    if options.upsample is not None:
        checks.check_lower("logits", logits, tuple(size), options, "labels")
    if mask is not None:
        checks.check_mask(mask, logits, tuple(size))
    backend = choose(options.backend, logits.device)
    ints = options.ints
    # Kernels are for a softmax; independent classes are counted by PyTorch, on every device.
    if options.activation == "sigmoid" or backend not in TALLIES:
        backend = "reference"
    if options.upsample is not None and not BY_NAME[backend].upsamples:
        logits = interpolated(logits, size, options.align_corners)
        ints = ints._replace(upsample=0, align_corners=0)
    counted = Tally(*TALLIES[backend](logits, labels, mask, ints))
    if checks.can_look_at(logits, labels, waits=options.validate) and counted.wrong.item():
        count = 2 if options.activation == "sigmoid" else logits.shape[1]
        checks.check_label_range(labels, mask, count, options.ignore_index, "labels")
    return counted


def _checked_labels(labels: Tensor, logits: Tensor, options: TallyOptions) -> Tensor:
    checks.check_integers("labels", labels)
    checks.check_same_device("labels", labels, logits)
    labels = checks.plain(labels)
    n, c, *spatial = logits.shape
    is_sigmoid = options.activation == "sigmoid"
    if is_sigmoid and c == 1 and labels.dim() == logits.dim() - 1:
        labels = labels.unsqueeze(1)
    if options.upsample is not None:
        spatial = labels.shape[-len(spatial) :]
    expected = (n, c, *spatial) if is_sigmoid else (n, *spatial)
    if tuple(labels.shape) != expected:
        cure = ""
        if not is_sigmoid and tuple(labels.shape) == (n, 1, *spatial):
            cure = "; labels.squeeze(1) takes the channel away"
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}: expected {expected} beside logits of shape "
            f"{tuple(logits.shape)}{cure}"
        )
    return labels
