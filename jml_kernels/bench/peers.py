"""The losses of other libraries, where those are installed.

No library is required, and none is imported before a loss of it is made. Each loss is called as its
users call it, with what they must do to labels, and with the options that come nearest to
`JaccardMetricLoss`: sums over the batch, a mean over the classes present, no smoothing. `what` says
what remains different. None has `same`: each treats a class without labels, or a batch, in another
way, and those that take soft targets are not exact at the sizes that are timed: their L1 norms are
`torch.linalg.vector_norm`, which on a CPU adds float32 one after the other. In float64 they agree.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from .cases import CE_JACCARD, DISTILLATION, LOVASZ, METRICS, BenchmarkCase
from .competitor import Competitor, Loss, NotAvailableError

#: lambda of eq. 14, as `JaccardCrossEntropyLoss` has it.
CE_WEIGHT = 0.25


@dataclass(frozen=True)
class Library:
    """Where losses come from.

    Attributes:
        package: its name for pip.
        oldest: the oldest release, (major, minor), that is known to compute what is said here.
    """

    package: str
    oldest: tuple[int, int]


SMP = Library("segmentation-models-pytorch", (0, 5))
MONAI = Library("monai", (1, 5))  # soft_label
NNUNET = Library("nnunetv2", (2, 6))
KORNIA = Library("kornia", (0, 9))  # before, Tversky was of all classes together
TORCHMETRICS = Library("torchmetrics", (1, 6))


LIBRARIES = (SMP, MONAI, NNUNET, KORNIA, TORCHMETRICS)


def versions() -> dict[str, str]:
    """Package -> release, of the libraries that are installed."""
    releases = {}
    for library in LIBRARIES:
        try:
            releases[library.package] = importlib.metadata.version(library.package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return releases


@dataclass(frozen=True)
class Limits:
    """What a loss cannot take, and why, in words; empty where it can.

    Attributes:
        soft: targets that are probabilities.
        cross_entropy: the objective with cross-entropy.
        metrics: scores of a batch.
        dimensions: how many spatial dimensions it can take.
    """

    soft: str = ""
    cross_entropy: str = ""
    metrics: str = "computes no scores"
    dimensions: tuple[int, ...] = (0, 1, 2, 3)


_ONLY_LABELS = "takes labels only"
_HARD = "is meant for hard labels: with soft ones its minimum is not at the target"
_NO_CROSS_ENTROPY = "has no cross-entropy in its loss"

_SMP_LIMITS = Limits(cross_entropy=_NO_CROSS_ENTROPY)
_MONAI_LIMITS = Limits(soft=_HARD)
_MONAI_SOFT_LIMITS = Limits(cross_entropy="has no cross-entropy beside soft_label=True")
# Without spatial dimensions it would sum over classes.
_NNUNET_LIMITS = Limits(soft=_HARD, dimensions=(1, 2, 3))
_KORNIA_LIMITS = Limits(soft=_ONLY_LABELS, cross_entropy=_NO_CROSS_ENTROPY, dimensions=(2,))
_TORCHMETRICS_LIMITS = Limits(
    soft=_ONLY_LABELS, cross_entropy="is a metric, without cross-entropy", metrics=""
)


def obstacle(case: BenchmarkCase, limits: Limits) -> str:
    """Why a loss with these limits cannot take the case; empty where it can."""
    dimensions = len(case.shape) - 2
    if case.objective == DISTILLATION:
        return "has no distillation"
    if case.objective == METRICS and limits.metrics:
        return limits.metrics
    if case.objective == LOVASZ:
        return "has no Lovász loss by this name"
    if case.target == "boundary":
        return "has no boundary smoothing"
    if case.target == "soft" and limits.soft:
        return limits.soft
    if case.objective == CE_JACCARD and limits.cross_entropy:
        return limits.cross_entropy
    if dimensions not in limits.dimensions:
        allowed = " or ".join(map(str, limits.dimensions))
        return f"takes {allowed} spatial dimensions, not {dimensions}"
    if case.shape[1] == 1:
        return "is used with a softmax here, which is constant for one class"
    return ""


def check_case(name: str, case: BenchmarkCase, limits: Limits) -> None:
    """Raise a NotAvailableError where the loss cannot take the case."""
    why = obstacle(case, limits)
    if why:
        raise NotAvailableError(f"{name} {why}")


def check_release(library: Library) -> None:
    """Raise a NotAvailableError where a release is installed that computes something else."""
    try:
        release = importlib.metadata.version(library.package)
    except importlib.metadata.PackageNotFoundError:
        return  # a checkout on the path has none, and is taken as it is
    if tuple(map(int, re.findall(r"\d+", release)[:2])) < library.oldest:
        oldest = ".".join(map(str, library.oldest))
        raise NotAvailableError(
            f"{library.package} {release} is installed; its losses are compared from {oldest} on "
            f"(pip install -U {library.package})"
        )


def load(library: Library, module: str, name: str) -> Callable:
    """What a module of the library calls `name`, or a NotAvailableError."""
    check_release(library)
    package, root = library.package, module.partition(".")[0]
    try:
        importlib.import_module(root)  # first, so that what is missing is named
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a broken installation raises
        if isinstance(error, ModuleNotFoundError) and error.name == root:
            why = f"{package} is not installed (pip install {package})"
        else:
            line = next(iter(str(error).splitlines()), "")
            why = f"{package} is installed, but not usable: {type(error).__name__}: {line}"
        raise NotAvailableError(why) from error


def in_float32(loss: Loss) -> Loss:
    """Half types in float32, as under autocast: their sums over an image overflow float16."""

    def widened(tensor: Tensor) -> Tensor:
        is_half = tensor.is_floating_point() and tensor.element_size() == 2
        return tensor.float() if is_half else tensor

    return lambda *tensors: loss(*map(widened, tensors))


def with_channel(loss: Loss) -> Loss:
    """Labels as (N, 1, *spatial)."""
    return lambda logits, labels: loss(logits, labels.unsqueeze(1))


# ---- segmentation-models-pytorch -----------------------------------------------------------------


def smp(class_name: str, case: BenchmarkCase) -> Loss:
    """Only its multi-label mode takes soft targets, and of logits that takes a sigmoid: the softmax
    is outside."""
    check_case(SMP.package, case, _SMP_LIMITS)
    make = load(SMP, "segmentation_models_pytorch.losses", class_name)
    if case.target != "soft":
        return in_float32(make("multiclass"))
    loss = make("multilabel", from_logits=False)
    return in_float32(lambda logits, target: loss(logits.softmax(dim=1), target))


# ---- MONAI ---------------------------------------------------------------------------------------

#: smooth_dr stays what it is, 1e-5: without it a class of no probability is 0 / 0.
_MONAI_OPTIONS = {"softmax": True, "batch": True, "smooth_nr": 0.0}


def monai(jaccard: bool, case: BenchmarkCase) -> Loss:
    check_case("this loss of monai", case, _MONAI_LIMITS)
    options = {"jaccard": jaccard, "to_onehot_y": True, **_MONAI_OPTIONS}
    if case.objective == CE_JACCARD:
        make = load(MONAI, "monai.losses", "DiceCELoss")
        loss = make(lambda_ce=CE_WEIGHT, lambda_dice=1 - CE_WEIGHT, **options)
    else:
        loss = load(MONAI, "monai.losses", "DiceLoss")(**options)
    return in_float32(with_channel(loss))


def monai_soft(case: BenchmarkCase) -> Loss:
    check_case(MONAI.package, case, _MONAI_SOFT_LIMITS)
    make = load(MONAI, "monai.losses", "DiceLoss")
    to_one_hot = case.target != "soft"
    loss = make(jaccard=True, soft_label=True, to_onehot_y=to_one_hot, **_MONAI_OPTIONS)
    return in_float32(with_channel(loss) if to_one_hot else loss)


# ---- nnU-Net -------------------------------------------------------------------------------------


def nnunet(case: BenchmarkCase) -> Loss:
    """With cross-entropy it is the loss that nnU-Net trains with, of which Dice is subtracted."""
    check_case(NNUNET.package, case, _NNUNET_LIMITS)
    dice = load(NNUNET, "nnunetv2.training.loss.dice", "MemoryEfficientSoftDiceLoss")
    options = {"batch_dice": True, "do_bg": True, "smooth": 0.0, "ddp": False}
    if case.objective == CE_JACCARD:
        make = load(NNUNET, "nnunetv2.training.loss.compound_losses", "DC_and_CE_loss")
        weights = {"weight_ce": CE_WEIGHT, "weight_dice": 1 - CE_WEIGHT}
        loss = make(options, {}, dice_class=dice, **weights)
    else:
        softmax = load(NNUNET, "nnunetv2.utilities.helpers", "softmax_helper_dim1")
        loss = dice(apply_nonlin=softmax, **options)
    return in_float32(with_channel(loss))


# ---- kornia --------------------------------------------------------------------------------------


def kornia(function_name: str, options: dict, case: BenchmarkCase) -> Loss:
    check_case(KORNIA.package, case, _KORNIA_LIMITS)
    return in_float32(partial(load(KORNIA, "kornia.losses", function_name), **options))


# ---- torchmetrics --------------------------------------------------------------------------------


def torchmetrics(case: BenchmarkCase) -> Loss:
    """Its checks of the labels, which take longer than the metric, are off. An argmax needs no
    float32."""
    check_case(TORCHMETRICS.package, case, _TORCHMETRICS_LIMITS)
    module = "torchmetrics.functional.classification"
    index = load(TORCHMETRICS, module, "multiclass_jaccard_index")
    options = {"num_classes": case.shape[1], "validate_args": False}
    if case.objective != METRICS:
        return lambda logits, labels: 1 - index(logits, labels, average="macro", **options)
    error = load(TORCHMETRICS, module, "multiclass_calibration_error")

    def scores(logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.detach()
        return index(logits, labels, **options) + error(logits, labels, n_bins=10, **options)

    return in_float32(scores)


# ---- all -----------------------------------------------------------------------------------------

#: On a CPU their losses of 4 x 19 x 512 x 512 logits were off by 1e-4 to 1e-3.
_INEXACT = "its float32 sums of a million pixels are off by 1e-3 on a CPU"

#: By their names on the command line.
PEERS: dict[str, Competitor] = {
    "smp-jaccard": Competitor(
        "JaccardLoss of segmentation-models-pytorch. It takes the Jaccard index of L1 norms, as"
        " JML1 does, with sums over the batch, the softmax inside (for soft targets outside), "
        "and no smoothing (the denominator is at least 1e-7). A class without labels counts as "
        "loss 0 in a mean over all classes. It equals JaccardMetricLoss where every class is "
        f"present, on soft targets too; {_INEXACT}",
        partial(smp, "JaccardLoss"),
    ),
    "smp-dice": Competitor(
        "DiceLoss of segmentation-models-pytorch. It is smp-jaccard with the Dice score, and "
        "equals DiceSemimetricLoss where every class is present, on soft targets too; "
        f"{_INEXACT}",
        partial(smp, "DiceLoss"),
    ),
    "monai-jaccard": Competitor(
        "DiceLoss(jaccard=True, batch=True) of MONAI. It is the soft Jaccard loss of L1 norms, "
        "with sums over the batch, the softmax inside, a smoothing of 0 in the numerator and of"
        " 1e-5 in the denominator, and a mean over all classes, present or not. On labels it "
        'equals JaccardMetricLoss(active_classes="all"). With cross-entropy it is DiceCELoss, '
        "which here adds 0.25 CE and 0.75 of it",
        partial(monai, True),
    ),
    "monai-jaccard-soft": Competitor(
        "DiceLoss(jaccard=True, soft_label=True, batch=True) of MONAI. It takes the Jaccard "
        "index of L1 norms, as JML1 does, and is as monai-jaccard otherwise. On labels and on "
        f'soft targets it equals JaccardMetricLoss(active_classes="all"); {_INEXACT}',
        monai_soft,
    ),
    "monai-dice": Competitor(
        "DiceLoss(batch=True) of MONAI. It is monai-jaccard with the soft Dice score, and on "
        'labels equals SoftDiceLoss(active_classes="all")',
        partial(monai, False),
    ),
    "nnunet-dice": Competitor(
        "MemoryEfficientSoftDiceLoss(batch_dice, do_bg) of nnU-Net. It is minus the soft Dice "
        "score of L1 norms, with sums over the batch, the softmax inside, no smoothing (the "
        "denominator is at least 1e-8), and a mean over all classes, present or not. On labels "
        'it equals SoftDiceLoss(active_classes="all") - 1. With cross-entropy it is '
        "DC_and_CE_loss, which here adds 0.25 CE and 0.75 of it",
        nnunet,
    ),
    "kornia-dice": Competitor(
        'dice_loss(average="macro") of kornia. It is the soft Dice loss of L1 norms, with sums '
        "over each image, the softmax inside, and 1e-8 in the denominator. It takes the mean "
        "over the classes that are present in an image, then over images. On labels it equals "
        'SoftDiceLoss(aggregation="image") as long as no image is ignored as a whole: such an '
        "image counts as loss 1 here, and is left out of ours",
        partial(kornia, "dice_loss", {"average": "macro"}),
    ),
    "kornia-tversky": Competitor(
        "tversky_loss(alpha=1, beta=1) of kornia. It is kornia-dice with the soft Jaccard "
        'index, and on labels equals JaccardMetricLoss(aggregation="image") with the same '
        "exception",
        partial(kornia, "tversky_loss", {"alpha": 1.0, "beta": 1.0}),
    ),
    "torchmetrics-jaccard": Competitor(
        "multiclass_jaccard_index of torchmetrics. It is a metric and has no backward: 1 - IoU "
        "of the argmax, with sums over the batch and a mean over the classes that are present "
        "in labels or predictions. No loss of ours on the logits equals it, but "
        'JaccardMetricLoss of the one-hot argmax does (activation="none", '
        'active_classes="both"). As metrics it is that index and multiclass_calibration_error, a '
        "part of what ours compute",
        torchmetrics,
    ),
}
