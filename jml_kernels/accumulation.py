"""`accumulate`: the exact loss of a large batch, and its gradients, over micro-batches.

    first pass, without a graph    sums of each micro-batch -> added: those of the whole batch
    second pass, with a graph      value: that of the whole sums; gradient by the micro-batch's own

The loss is a formula L(S) of sums S over the images (`formulas.Sums`), and S = sum over k of S_k.
So dL/dparameters = sum over k of dL/dS * dS_k/dparameters, and the backward of micro-batch k alone
adds its share once dL/dS is known, for which the first pass is there. The mean of the losses L(S_k)
is another loss with another gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from . import distributed
from .formulas import Sums
from .options import LossOptions


def accumulate(
    loss: Callable[..., Tensor],
    forward: nn.Module | Callable[[Any], Any],
    micro_batches: Iterable[Any],
    *,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Tensor:
    """Loss and gradients of the whole batch, in the memory of one micro-batch.

    The value, and what is added to the gradients of the parameters, are those of
    `loss(model(whole batch), ...).backward()`. Each micro-batch goes forward twice, the first time
    without a graph: a step takes about a third longer than the usual accumulation, whose mean of
    losses is another loss. Batch normalisation still normalises over a micro-batch.

    The second pass repeats the first: PyTorch's random numbers (dropout) are the same ones, and
    buffers (running statistics) are put back, so that they change once. Whatever else is random
    must be drawn before, with the micro-batches.

    Args:
        loss: a loss of this library, `DeepSupervision`, or any function of those; every part of its
            value must come from them. Its reduction must give one number. It may be called inside
            autocast, and may have a process_group: one all-reduce follows the first pass. Compile
            the model, not the loss.
        forward: the model; or a function of what a model would be given, that returns logits, or a
            tuple of the first arguments of the loss.
        micro_batches: each is (inputs, *others), a tuple or list: `loss(forward(inputs), *others)`
            is computed; what is neither is inputs alone. At least one; a rank that has no images
            gives a micro-batch of none. Sizes may differ.
        backward: what is called with the value of the second pass for each micro-batch, for example
            `lambda value: scaler.scale(value).backward()` with a GradScaler.

    Returns:
        the loss of the whole batch, 0-dim, without a graph.

    A model that is wrapped for data parallelism and has `no_sync` (DDP, FSDP1) communicates its
    gradients with the last micro-batch only. With FSDP2, whose forward communicates, ranks need the
    same number of micro-batches.

    Raises:
        TypeError, ValueError: for an argument of the wrong kind, and as the loss does.
        RuntimeError: where `loss` calls no loss of this library, or is compiled.
    """
    batches = _checked_batches(micro_batches)
    for name, function in (("loss", loss), ("forward", forward), ("backward", backward)):
        if not callable(function):
            raise TypeError(f"{name} is a {type(function).__name__}: expected a function or module")

    def value_of(batch: Any) -> Tensor:
        inputs, *others = batch if isinstance(batch, (tuple, list)) else (batch,)
        outputs = forward(inputs)
        # A model's tuple is one argument, as the heads of deep supervision.
        is_arguments = isinstance(outputs, tuple) and not isinstance(forward, nn.Module)
        value = loss(*(outputs if is_arguments else (outputs,)), *others)
        if not isinstance(value, Tensor) or value.dim() != 0:
            raise ValueError(f"loss gives {_described(value)}: expected one number, 0-dim")
        return value

    modules = _Modules(forward)
    random_states = []
    with modules.put_back(), torch.no_grad(), _accumulating(_FirstPass()) as first:
        for batch in batches:
            random_states.append(_random_state())
            with modules.without_communication():
                value_of(batch)
            first.end_micro_batch()
        first.sum_over_ranks()
    # Autocast keeps the weights that it has cast, and those of the first pass have no graph.
    torch.clear_autocast_cache()
    with _accumulating(_SecondPass(first)) as second:
        for k, (batch, random_state) in enumerate(zip(batches, random_states, strict=True)):
            _set_random_state(random_state)
            is_last = k == len(batches) - 1
            with contextlib.nullcontext() if is_last else modules.without_communication():
                value = value_of(batch)
                backward(value)
            value = value.detach()  # the graph goes before the next one is made
            second.end_micro_batch()
    return value


def _checked_batches(micro_batches: Iterable[Any]) -> list[Any]:
    if isinstance(micro_batches, Tensor) or not isinstance(micro_batches, Iterable):
        raise TypeError(
            f"micro_batches is a {type(micro_batches).__name__}: expected a sequence of tuples "
            "(inputs, *others)"
        )
    batches = list(micro_batches)
    if not batches:
        raise ValueError(f"micro_batches={micro_batches!r}: expected at least one micro-batch")
    return batches


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


# ---- what losses do with their sums --------------------------------------------------------------


_Pass = TypeVar("_Pass", "_FirstPass", "_SecondPass")


class _FirstPass:
    """Adds up the sums of micro-batches, for each call of a loss within one."""

    def __init__(self):
        self.whole: list[list[Sums]] = []
        self.options: list[LossOptions] = []
        self.calls = 0
        self.is_first_micro_batch = True

    def sums_of_batch(self, sums: list[Sums], options: LossOptions) -> list[Sums]:
        if self.is_first_micro_batch:
            self.whole.append(sums)
            self.options.append(options)
        elif self.calls < len(self.whole):
            _check_same_sums(self.whole[self.calls], sums)
            self.whole[self.calls] = [
                {name: part + more[name] for name, part in whole.items()}
                for whole, more in zip(self.whole[self.calls], sums, strict=True)
            ]
        self.calls += 1
        return sums

    def end_micro_batch(self) -> None:
        if self.calls == 0:
            raise RuntimeError("loss calls no loss of this library: expected one at least")
        if self.calls != len(self.whole):
            raise RuntimeError(
                f"loss calls {self.calls} losses in a micro-batch, and {len(self.whole)} in "
                "another: expected as many in each"
            )
        self.calls, self.is_first_micro_batch = 0, False

    def sum_over_ranks(self) -> None:
        for i, options in enumerate(self.options):
            if options.process_group is not None:
                self.whole[i] = distributed.sums_over_ranks(
                    self.whole[i], options.process_group, options.gradients
                )


def _check_same_sums(whole: list[Sums], sums: list[Sums]) -> None:
    if [of_target.keys() for of_target in whole] != [of_target.keys() for of_target in sums]:
        raise RuntimeError(
            "loss has labels or a teacher in a micro-batch, and not in another: expected the same "
            "targets in each"
        )


class _SecondPass:
    """Gives a micro-batch the value of the whole batch, and the gradient of its own sums."""

    def __init__(self, first: _FirstPass):
        self.whole = first.whole
        self.calls = 0

    def sums_of_batch(self, sums: list[Sums], options: LossOptions) -> list[Sums]:
        if self.calls == len(self.whole):
            raise self._other_calls(self.calls + 1)
        whole = self.whole[self.calls]
        self.calls += 1
        adjoints = 1
        # All ranks read the sum; see `distributed.GRADIENTS`. They all have the same adjoint.
        if options.process_group is not None and options.gradients == "averaged":
            adjoints = distributed.world_size(options.process_group)
        return [
            {
                name: _ValueOfWhole.apply(part, of_whole[name], adjoints)
                for name, part in of_target.items()
            }
            for of_target, of_whole in zip(sums, whole, strict=True)
        ]

    def end_micro_batch(self) -> None:
        if self.calls != len(self.whole):
            raise self._other_calls(self.calls)
        self.calls = 0

    def _other_calls(self, count: int) -> RuntimeError:
        return RuntimeError(
            f"loss calls {count} losses in the second pass, and {len(self.whole)} in the first: "
            "expected as many in each; a loss within a checkpoint is called in the backward too"
        )


class _ValueOfWhole(torch.autograd.Function):
    """The sum over the whole batch, as a function of one micro-batch's part of it."""

    @staticmethod
    def forward(ctx, part: Tensor, whole: Tensor, adjoints: int) -> Tensor:
        ctx.adjoints = adjoints
        return whole.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ctx.adjoints * grad, None, None


#: Holds the pass that runs now, which every loss that is called hands its sums to.
_running: list[_FirstPass | _SecondPass] = []


@contextlib.contextmanager
def _accumulating(one_pass: _Pass) -> Iterator[_Pass]:
    if _running:
        raise RuntimeError("accumulate is called within accumulate: expected one at a time")
    _running.append(one_pass)
    try:
        yield one_pass
    finally:
        _running.clear()


def running_pass() -> _FirstPass | _SecondPass | None:
    if not _running:
        return None
    if torch.compiler.is_compiling():
        raise RuntimeError("accumulate has a compiled loss: expected a compiled model, if any")
    return _running[0]


# ---- repeating a forward -------------------------------------------------------------------------


class _Modules:
    """The modules that run in a forward: itself, or, of a function, those that it calls."""

    def __init__(self, forward: Callable):
        self.is_module = isinstance(forward, nn.Module)
        self.outermost: list[nn.Module] = []
        self.seen: set[nn.Module] = set()
        self.buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []
        self.broadcasts: list[tuple[nn.Module, bool]] = []
        if self.is_module:
            self._add(forward)

    def _add(self, module: nn.Module) -> None:
        self.outermost.append(module)
        for inner in module.modules():
            self.seen.add(inner)
            if hasattr(inner, "require_forward_param_sync"):  # DDP's
                self.broadcasts.append((inner, inner.require_forward_param_sync))
            for name, buffer in inner.named_buffers(recurse=False):
                self.buffers.append((inner, name, buffer, buffer.clone()))

    @contextlib.contextmanager
    def put_back(self) -> Iterator[None]:
        """Buffers have at the end what they had when the module ran first."""

        def before_forward(module: nn.Module, _) -> None:
            if module not in self.seen:
                self._add(module)

        watch = None if self.is_module else register_module_forward_pre_hook(before_forward)
        try:
            yield
        finally:
            if watch is not None:
                watch.remove()
            with torch.no_grad():
                for module, name, buffer, value in self.buffers:
                    setattr(module, name, buffer.copy_(value))
            # DDP broadcasts buffers with the first forward of a step: with that of the second pass
            # again, since those of the first are gone.
            for module, is_due in self.broadcasts:
                module.require_forward_param_sync = is_due

    @contextlib.contextmanager
    def without_communication(self) -> Iterator[None]:
        """Gradients stay on their rank, for a wrapper that can leave out a reduction."""
        with contextlib.ExitStack() as stack:
            for module in self.outermost:
                if hasattr(module, "no_sync"):
                    stack.enter_context(module.no_sync())
            yield


def _device_modules() -> Sequence[Any]:
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return ()
    module = torch.get_device_module(accelerator)
    return (module,) if hasattr(module, "get_rng_state_all") else ()


def _random_state() -> tuple[Tensor, list[Any]]:
    """Of PyTorch's generators: the host's and those of its devices."""
    return torch.get_rng_state(), [module.get_rng_state_all() for module in _device_modules()]


def _set_random_state(state: tuple[Tensor, list[Any]]) -> None:
    host, devices = state
    torch.set_rng_state(host)
    for module, states in zip(_device_modules(), devices, strict=True):
        module.set_rng_state_all(states)
