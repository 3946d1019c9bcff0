"""The operators under torch.library.opcheck, torch.compile and autocast."""

from __future__ import annotations

import pytest
import torch
from operators import arguments_of, formula_arguments, gradients
from parametrize import each
from steps import step
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

import jml_kernels as jml
from jml_kernels.ops import LOSSES
from jml_kernels.selfcheck.corpus import BY_NAME
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.losses import OVERLAPS, make

pytestmark = pytest.mark.usefixtures("one_thread")

SELECTED = [
    BY_NAME[name]
    for name in (
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "0-D",
        "1-D",
        "3-D",
        "0 images",
        "layout channels_last",
        "layout cropped",
        "labels uint8",
        "labels bool",
        "labels int32 stepped",
        "mask and ignored",
        "soft float16 in float32",
        "soft channels_last",
        "boundary 3, 2-D",
        "multi-label, masked",
        "binary, labels",
        "probabilities, soft",
    )
]
WITH_TEACHER = [
    BY_NAME[f"distillation, {name}"]
    for name in (
        "teacher float16 of float32",
        "teacher float64 of bfloat16",
        "0-D",
        "3-D",
        "0 images",
        "channels_last and contiguous, tiles",
        "labels int32, mask stepped",
        "boundary, ignored and masked",
        "class weights",
        "temperatures 0.5 and 0.7, ce",
        "unlabeled, kl",
        "sigmoid, weights",
    )
]
OBJECTIVES = [
    *[BY_NAME[f"cross-entropy, weights, {name}"] for name in ("boundary", "soft", "sigmoid, bits")],
    *WITH_TEACHER,
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operator(name: str):
    return getattr(torch.ops.jml_kernels, name)


# ---- opcheck: schema, fake kernel, autograd registration, AOT dispatch with dynamic shapes -------


@each([*SELECTED, *WITH_TEACHER])
def test_opcheck_statistics(case, compiled, device):
    arguments = arguments_of(case, device)
    arguments["logits"].requires_grad_()
    torch.library.opcheck(operator(f"{compiled}_statistics").default, (), arguments)


@each([*SELECTED, *WITH_TEACHER])
def test_opcheck_loss(case, finished, device):
    arguments = {**arguments_of(case, device), **formula_arguments()}
    arguments["logits"].requires_grad_()
    torch.library.opcheck(operator(f"{finished}_loss").default, (), arguments)


@each([*SELECTED, *WITH_TEACHER])
def test_opcheck_backward(case, compiled, device):
    arguments = arguments_of(case, device)
    arguments = {**gradients(arguments), **arguments, "scale": torch.tensor(2.0, device=device)}
    name = f"{compiled}_statistics_backward"
    torch.library.opcheck(operator(name).default, (), arguments)
    arguments["logits"] = arguments["logits"].clone()
    torch.library.opcheck(operator(f"{name}_").default, (), arguments)


@each([*SELECTED, *WITH_TEACHER])
def test_fake_outputs_have_the_shapes_and_strides_of_real_ones(case, compiled, device):
    """torch.compile plans memory by the fake ones."""
    arguments = arguments_of(case, device)
    forward, backward = (
        operator(f"{compiled}_statistics"),
        operator(f"{compiled}_statistics_backward"),
    )

    def run(gradients, arguments):
        return (*forward(**arguments), backward(**gradients, **arguments))

    real = run(gradients(arguments), arguments)
    with torch._subclasses.FakeTensorMode() as mode:
        faked = [
            {k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
            for given in (gradients(arguments), arguments)
        ]
        fake = run(*faked)
    for one, other in zip(real, fake, strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


# ---- torch.compile -------------------------------------------------------------------------------


class Operators(TorchDispatchMode):
    """Which of the package's operators are called; the most elements that any other returns."""

    def __init__(self):
        super().__init__()
        self.called, self.largest = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.namespace == "jml_kernels":
            self.called.append(function._opname)
        elif isinstance(result, torch.Tensor) and "detach" not in function._opname:
            self.largest = max(self.largest, result.numel())
        return result


@each(SELECTED)
def test_compiled_equals_eager(case, compiled, device):
    """fullgraph=True: a graph break is an error."""
    logits, target, _, mask = shared(case, device)
    module = jml.JaccardMetricLoss(backend=compiled, **case.options)
    loss, gradient = step(module, logits, target, mask)
    graph = torch.compile(module, fullgraph=True, backend="aot_eager")
    same_loss, same_gradient = step(graph, logits, target, mask)
    torch.testing.assert_close(same_loss, loss, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-6, atol=1e-7)


@each(OBJECTIVES[::2])
def test_objectives_compile_without_a_graph_break(case, compiled, device):
    objective = make(case, compiled, device)
    loss, gradient = step(objective, *shared(case, device).arguments)
    graph = torch.compile(objective, fullgraph=True, backend="aot_eager")
    same_loss, same_gradient = step(graph, *shared(case, device).arguments)
    torch.testing.assert_close(same_loss, loss, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-6, atol=1e-7)


@each(OBJECTIVES)
def test_one_call_forward_and_one_backward(case, compiled, device):
    """Whatever the number of terms: softmaxes and reads of the logits are shared."""
    logits, *others = shared(case, device).arguments
    objective = make(case, compiled, device)
    leaf = logits.detach().requires_grad_()
    with Operators() as operators:
        objective(leaf, *others).backward()
    forward = f"{compiled}_{'loss' if compiled in LOSSES else 'statistics'}"
    assert operators.called == [forward, f"{compiled}_statistics_backward"]
    # Beside the package's own operators nothing of the logits' size is made; see also
    # test_memory.py.
    assert case.shape[0] == 0 or operators.largest < logits.numel() or logits[0, 0].numel() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"active_classes": "both", "aggregation": {"image": 0.5, "class": 0.5}, "gamma": 1.5},
        {"log_loss": True, "smooth": 0.1, "active_classes": "present", "reduction": "none"},
        {"class_weights": torch.ones(5), "aggregation": "image", "active_classes": "all"},
        {"inplace_backward": True},
    ],
    ids=["mixture", "logarithm", "class weights", "in place"],
)
def test_options_compile_without_a_graph_break(options, compiled, device):
    logits, target, *_ = shared(BY_NAME["float32"], device)
    module = jml.JaccardMetricLoss(backend=compiled, **options).to(device)

    def total(logits, *others):
        return module(logits * 1, *others).sum()  # not over a leaf

    loss, gradient = step(total, logits.clone(), target, None)
    graph = torch.compile(total, fullgraph=True, backend="aot_eager")
    same_loss, same_gradient = step(graph, logits.clone(), target, None)
    torch.testing.assert_close(same_loss, loss)
    torch.testing.assert_close(same_gradient, gradient)


def test_statistics_compile(compiled, device):
    logits, target, *_ = shared(BY_NAME["soft float32 in float32"], device)

    def own_loss(z, y):
        s = jml.class_statistics(z, y, backend=compiled)
        return (s.false_positive + s.false_negative).mean() / s.valid.sum()

    graph = torch.compile(own_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(graph(logits, target), own_loss(logits, target))


@pytest.mark.parametrize(
    ("make", "distils"),
    [
        (jml.JaccardMetricLoss, False),
        (jml.JaccardCrossEntropyLoss, False),
        (jml.JaccardDistillationLoss, True),
    ],
)
def test_the_compiler_of_the_user(make, distils, compiled, device):
    """Inductor, around a layer: the gradient goes on into the layers below."""
    torch.manual_seed(0)
    layer, teacher = (torch.nn.Conv2d(3, 5, 1).to(device) for _ in range(2))
    image = torch.randn(2, 3, 6, 7, device=device)
    target = torch.randint(0, 5, (2, 6, 7), device=device)
    loss = make(label_smoothing=0.1, boundary_size=3, backend=compiled)

    def objective(image, target):
        return loss(layer(image), target, *([teacher(image).detach()] if distils else []))

    gradients = []
    for run in (objective, torch.compile(objective, fullgraph=True)):
        layer.zero_grad()
        run(image, target).backward()
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_batch_sizes_do_not_recompile(overlap, compiled, device):
    """One graph for the first size, one with a dynamic size for all others."""
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def loss(logits, target):
        return OVERLAPS[overlap](logits, target, backend=compiled)

    for n in (4, 2, 8, 3, 16):
        logits = torch.randn(n, 5, 6, 7, device=device).requires_grad_()
        target = torch.randint(0, 5, (n, 6, 7), device=device)
        graph = loss(logits, target)
        graph.backward()
        torch.testing.assert_close(
            graph, OVERLAPS[overlap](logits, target, backend=compiled), rtol=1e-6, atol=1e-7
        )
    assert counter.frame_count <= 2


def test_image_sizes_do_not_recompile(compiled, device):
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def loss(logits, target):
        return jml.functional.jaccard_metric_loss(logits, target, backend=compiled)

    for height, width in [(6, 7), (8, 9), (5, 12), (16, 4), (7, 6)]:
        logits = torch.randn(2, 5, height, width, device=device)
        loss(logits, torch.randint(0, 5, (2, height, width), device=device))
    assert counter.frame_count <= 3


def test_a_bad_label_raises_in_a_compiled_graph(compiled, device):
    logits, target, *_ = shared(BY_NAME["float32"], device)
    if device != "cpu":
        pytest.skip("a GPU is not waited for: the loss is NaN")
    target = target.clone()
    target[1, 2, 3] = 9
    module = jml.JaccardMetricLoss(backend=compiled)
    with pytest.raises(IndexError, match=r"label 9 at position \(1, 2, 3\)"):
        torch.compile(module, fullgraph=True, backend="aot_eager")(logits, target)


# ---- autocast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_hands_half_logits_over_as_they_are(dtype, backend, device):
    """What a convolution under autocast makes is read in its dtype, and so is the gradient."""
    logits, target, *_ = shared(BY_NAME["float32"], device)
    leaf = logits.to(dtype).requires_grad_()
    module = jml.JaccardMetricLoss(backend=backend)
    with torch.autocast(device, dtype=dtype):
        loss = module(leaf, target)
    assert loss.dtype == torch.float32
    loss.backward()
    assert leaf.grad.dtype == dtype
    expected = module(leaf.detach(), target)
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("logits_dtype", [torch.float32, torch.float64])
def test_autocast_does_not_lower_the_precision(logits_dtype, backend, device):
    logits, target, *_ = shared(BY_NAME["float32"], device)
    leaf = logits.to(logits_dtype).requires_grad_()
    module = jml.JaccardMetricLoss(backend=backend, aggregation={"image": 1.0}, smooth=0.1)
    outside, gradient = step(module, leaf, target, None)
    with torch.autocast(device, dtype=torch.bfloat16):
        inside, same_gradient = step(module, leaf, target, None)
    assert torch.equal(inside, outside)
    assert torch.equal(same_gradient, gradient)


def test_autocast_around_a_layer(backend, device):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 5, 3).to(device)
    target = torch.randint(0, 5, (2, 6, 7), device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        logits = layer(torch.randn(2, 3, 8, 9, device=device))
        assert logits.dtype == torch.bfloat16
        loss = jml.JaccardMetricLoss(backend=backend)(logits, target)
    loss.backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.isfinite().all()
