"""The Triton kernels of jml_kernels, importable only as jml_kernels.triton_kernels."""

if __name__ != "jml_kernels.triton_kernels":
    raise ImportError(
        f"this folder was imported as {__name__!r}: its name in the installed package is "
        "jml_kernels.triton_kernels, since another package owns the top-level name"
    )
