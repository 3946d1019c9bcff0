"""Builds the compiled kernels; everything else about the package stands in pyproject.toml.

JML_BUILD chooses what is built:
    auto  the CPU kernels where a C++ compiler can build them, the CUDA kernels where nvcc can (the
          default, also where JML_BUILD is set to nothing)
    cpu   the CPU kernels, or fail
    cuda  the CPU and the CUDA kernels, or fail
    none  nothing: the reference backend, and Triton, which compiles as it runs

An editable install compiles again only what changed.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # not there when pip calls
import build_cuda

CPU_SOURCES = [
    "csrc/module.cpp",
    "csrc/operators.cpp",
    "csrc/cpu/operators.cpp",
    "csrc/cpu/lovasz/operators.cpp",
    "csrc/cpu/tally.cpp",
    "csrc/cpu/kernel_baseline.cpp",
    "csrc/cpu/kernel_avx2.cpp",
    "csrc/cpu/kernel_avx512.cpp",
]
CHOICES = ("auto", "cpu", "cuda", "none")


def compiler() -> str | None:
    configured = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    return shutil.which(configured.split()[0]) or shutil.which("c++")


def left_out(kernels: str, reason: object) -> None:
    print(f"jml-kernels: the {kernels} kernels are left out: {reason}", file=sys.stderr)


def extensions() -> tuple[list, dict]:
    choice = os.environ.get("JML_BUILD") or "auto"
    if choice not in CHOICES:
        sys.exit(f"JML_BUILD={choice!r}: expected one of {', '.join(map(repr, CHOICES))}")
    with_cpu, with_cuda = choice != "none", choice in ("auto", "cuda")
    if choice == "auto" and compiler() is None:
        left_out("CPU", "no C++ compiler")
        with_cpu = False
    if with_cuda and build_cuda.missing() is not None:
        if choice == "cuda":
            sys.exit(f"JML_BUILD='cuda': the CUDA kernels cannot be built: {build_cuda.missing()}")
        left_out("CUDA", build_cuda.missing())
        with_cuda = False
    if with_cuda:
        build_cuda.asked_architectures()  # before anything is compiled
    if not with_cpu and not with_cuda:
        return [], {}
    found = [cpu_extension()] if with_cpu else []
    if with_cuda:
        found.append(Extension("jml_kernels._cuda", build_cuda.sources()))
    for extension in found:
        extension.optional = choice == "auto"
    return found, {"build_ext": command(choice)}


def cpu_extension() -> Extension:
    import pybind11  # noqa: PLC0415
    from torch.utils.cpp_extension import CppExtension  # noqa: PLC0415

    return CppExtension(
        "jml_kernels._cpu",
        CPU_SOURCES,
        include_dirs=[pybind11.get_include()],
        define_macros=[("TORCH_TARGET_VERSION", build_cuda.TORCH_TARGET_VERSION)],
        extra_compile_args=[
            "-O3",
            "-g0",
            "-Wall",
            "-fvisibility=hidden",
            "-ffp-contract=fast",
            "-fno-math-errno",
            "-fno-trapping-math",
            # Rows are short: a call of memmove for each costs more than the loop.
            "-fno-tree-loop-distribute-patterns",
        ],
    )


def command(choice: str) -> type:
    from torch.utils.cpp_extension import BuildExtension  # noqa: PLC0415

    class BuildKernels(BuildExtension):
        def finalize_options(self):
            super().finalize_options()
            if self.editable_mode:  # not a temporary folder: keep the objects for the next time
                self.build_temp = os.path.join("build", "editable")

        def get_ext_filename(self, name):
            if name.split(".")[-1] == "_cuda":  # of no Python's ABI
                return os.path.join(*name.split(".")) + ".so"
            return super().get_ext_filename(name)

        def build_extensions(self):
            every = self.extensions
            for extension in every:
                is_cuda = extension.name == "jml_kernels._cuda"
                self.extensions = [extension]
                try:
                    if is_cuda:
                        self.build_cuda(extension)
                    else:
                        super().build_extensions()
                except Exception as error:
                    if choice != "auto":
                        raise
                    left_out("CUDA" if is_cuda else "CPU", error)
            self.extensions = every

        def build_cuda(self, extension):
            kept = Path("build") if self.editable_mode else Path(self.build_temp)
            build_cuda.build(Path(self.get_ext_fullpath(extension.name)), kept / "cuda")

        def copy_extensions_to_source(self):
            super().copy_extensions_to_source()
            report = Path(self.build_lib, "jml_kernels", build_cuda.REPORT)
            if report.exists():
                package = self.get_finalized_command("build_py").get_package_dir("jml_kernels")
                self.copy_file(str(report), package)

    return BuildKernels


ext_modules, cmdclass = extensions()
setup(ext_modules=ext_modules, cmdclass=cmdclass)
