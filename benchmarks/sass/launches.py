"""The launches of the CUDA kernels, as csrc/cuda/launch.cuh makes them: a step of a loss runs on
tensors of the CPU, through the operators that the tests' emulation of CUDA builds for the host, and
whoever listens gets each launch in place of the emulation.

One listener, and one number of multiprocessors, a process: launch.cuh asks once and remembers. The
environment has to name the library (JML_CUDA_EMULATION) before the package is imported.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

from jml_kernels import cuda_resources
from jml_kernels.elf import Elf

from .interpreter.block import Launch
from .kernels import Kernel, Kernels

#: Whatever is in csrc/cuda/launch.cuh's hands when it launches; an exception in it ends the step.
OnLaunch = Callable[[Launch], None]

_Occupancy = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
_Launch = ctypes.CFUNCTYPE(
    ctypes.c_bool,
    *(ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_size_t),
    *(ctypes.c_void_p, ctypes.c_size_t),
)


class _Answers(ctypes.Structure):
    _fields_ = (
        ("multiprocessors", ctypes.c_int),
        ("blocks_at_a_time", _Occupancy),
        ("launch", _Launch),
    )


class Launches:
    """Gives each launch to `on_launch`, which may be set anew.

    Args:
        library: of the emulation.
        kernels: what is launched.
        target: the architecture that they are for.
        multiprocessors: of the GPU that stands in for.
    """

    _REFERENCE = "jml_cuda_emulation_launches"  # a symbol whose address is known

    def __init__(self, library: Path, kernels: Kernels, target: str, multiprocessors: int):
        self.on_launch: OnLaunch = lambda launch: None
        self.error: BaseException | None = None
        self._kernels, self._target = kernels, target
        loaded = ctypes.CDLL(str(library))
        elf = Elf(library.read_bytes())
        self._name_at = {symbol.value: symbol.name for symbol in elf.symbols()}
        value = next(s.value for s in elf.symbols() if s.name == self._REFERENCE)
        reference = ctypes.cast(getattr(loaded, self._REFERENCE), ctypes.c_void_p).value
        self._base = reference - value
        # Kept, since the library keeps only the address.
        self._answers = _Answers(
            multiprocessors, _Occupancy(self._blocks_at_a_time), _Launch(self._launch)
        )
        loaded.jml_cuda_emulation_ask(ctypes.byref(self._answers))

    def kernel(self, launch: Launch) -> Kernel:
        return self._kernels[launch.kernel]

    def resident_blocks(self, launch: Launch) -> int:
        """How many blocks of a launch a multiprocessor holds."""
        registers = self.kernel(launch).registers
        warps = cuda_resources.warps(self._target, registers, launch.threads, launch.shared)
        return warps * 32 // launch.threads

    def raise_error(self) -> None:
        """What went wrong in `on_launch`, which could not be raised through the library."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _name(self, function: int) -> str:
        return self._name_at[function - self._base]

    def _blocks_at_a_time(self, function: int, threads: int, shared: int) -> int:
        return self.resident_blocks(Launch(self._name(function), 0, threads, shared, b""))

    def _launch(self, function, blocks, threads, shared, argument, bytes_) -> bool:
        try:
            data = ctypes.string_at(argument, bytes_)
            self.on_launch(Launch(self._name(function), blocks, threads, shared, data))
        except BaseException as error:  # raised where Python is in charge again
            self.error = error
            return False
        return True
