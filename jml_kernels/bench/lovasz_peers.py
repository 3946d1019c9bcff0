"""The Lovász-Softmax losses of other libraries, where those are installed, as peers.py has their
overlap losses."""

from __future__ import annotations

from .cases import LOVASZ, BenchmarkCase
from .competitor import Competitor, Loss, NotAvailableError
from .peers import KORNIA, SMP, in_float32, load


def check_objective(case: BenchmarkCase) -> None:
    if case.objective != LOVASZ:
        raise NotAvailableError("it is a Lovász loss, which is compared with --objective lovasz")


def kornia(case: BenchmarkCase) -> Loss:
    check_objective(case)
    if len(case.shape) != 4:
        raise NotAvailableError(f"{KORNIA.package} takes 2 spatial dimensions")
    return in_float32(load(KORNIA, "kornia.losses", "lovasz_softmax_loss"))


def smp(case: BenchmarkCase) -> Loss:
    check_objective(case)
    if len(case.shape) != 4:
        raise NotAvailableError(f"{SMP.package} takes 2 spatial dimensions here")
    return in_float32(load(SMP, "segmentation_models_pytorch.losses", "LovaszLoss")("multiclass"))


#: By their names on the command line.
LOVASZ_PEERS: dict[str, Competitor] = {
    "kornia-lovasz": Competitor(
        "lovasz_softmax_loss of kornia. It has a loss of each image, and takes the mean over all "
        'classes, present or not: it equals LovaszSoftmaxLoss(per_image=True, classes="all")',
        kornia,
    ),
    "smp-lovasz": Competitor(
        'LovaszLoss("multiclass") of segmentation-models-pytorch. It equals LovaszSoftmaxLoss()',
        smp,
    ),
}
