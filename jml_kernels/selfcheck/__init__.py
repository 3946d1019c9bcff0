"""What `jml-kernels check` does: every backend on this machine against the reference, with nothing
but PyTorch.

    corpus/                        the cases, which the tests share: tensors, losses, and reasons
    parity.py, gradients.py, ...   a check each: the trials of a backend, or why there are none
    runner.py, interpreted.py      runs them: here, or in a process with Triton's interpreter
    results.py, report.py          rows and failures; tables and JSON
"""
