"""What `jml-kernels check` does: every backend on this machine against the reference, with nothing
but PyTorch.

    cases.py, *_cases.py               what is computed: lists, with reasons
    inputs.py, layouts.py, losses.py   on which tensors, and by which losses
    parity.py, gradients.py, ...       a check each: the trials of a backend, or why there are none
    runner.py, interpreted.py          runs them: here, or in a process with Triton's interpreter
    results.py, report.py              rows and failures; tables and JSON
"""
