"""Builds the C++ extension; everything else about the package stands in pyproject.toml.

JML_BUILD chooses what is built:
    auto  the CPU kernels where a C++ compiler can build them (the default)
    cpu   the CPU kernels, or fail
    none  nothing: the reference backend alone

An editable install compiles again only what changed.
"""

import os
import shutil
import sys
import sysconfig

from setuptools import setup

CPU_SOURCES = [
    "csrc/module.cpp",
    "csrc/ops.cpp",
    "csrc/cpu/statistics.cpp",
    "csrc/cpu/kernel_baseline.cpp",
    "csrc/cpu/kernel_avx2.cpp",
    "csrc/cpu/kernel_avx512.cpp",
]
# One binary for PyTorch 2.11 and newer, through the stable ABI.
TORCH_TARGET_VERSION = "0x020b000000000000"


def compiler() -> str | None:
    configured = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    return shutil.which(configured.split()[0]) or shutil.which("c++")


def extensions() -> tuple[list, dict]:
    choice = os.environ.get("JML_BUILD", "auto")
    if choice == "cuda":
        sys.exit("JML_BUILD='cuda': this version has no CUDA kernels yet; expected 'auto' or 'cpu'")
    if choice not in ("auto", "cpu", "none"):
        sys.exit(f"JML_BUILD={choice!r}: expected 'auto', 'cpu' or 'none'")
    if choice == "none":
        return [], {}
    if choice == "auto" and compiler() is None:
        print("jml-kernels: no C++ compiler, the CPU kernels are left out", file=sys.stderr)
        return [], {}
    import pybind11  # noqa: PLC0415
    from torch.utils.cpp_extension import BuildExtension, CppExtension  # noqa: PLC0415

    class BuildKernels(BuildExtension):
        def finalize_options(self):
            super().finalize_options()
            if self.editable_mode:  # not a temporary folder: keep the objects for the next time
                self.build_temp = os.path.join("build", "editable")

        def build_extensions(self):
            try:
                super().build_extensions()
            except Exception as error:
                if choice != "auto":
                    raise
                print(f"jml-kernels: the CPU kernels are left out: {error}", file=sys.stderr)

    extension = CppExtension(
        "jml_kernels._cpu",
        CPU_SOURCES,
        include_dirs=[pybind11.get_include()],
        define_macros=[("TORCH_TARGET_VERSION", TORCH_TARGET_VERSION)],
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
        optional=choice == "auto",
    )
    return [extension], {"build_ext": BuildKernels}


ext_modules, cmdclass = extensions()
setup(ext_modules=ext_modules, cmdclass=cmdclass)
