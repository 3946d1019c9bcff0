"""A model of the CUDA kernels that needs no GPU: `python -m benchmarks.sass` interprets a block of
each kernel as it was compiled for sm_90 ("SASS", NVIDIA's machine code), counts what its warps
issue, and replays it on a model of a multiprocessor.

objects, and what they say
    build.py                             what has to be built first
    disassembly.py, kernels.py           machine code out of what nvcc made
    launches.py, steps.py                a step of a loss on tensors of the CPU, launch by launch
    interpreter/                         what a block computes, and what its warps issue
what follows
    pipes.py, counts.py                  instructions by pipe, bytes, sectors, turns of banks
    devices.py                           what GPUs are made of, with its source
    replay.py, predictions.py            cycles of a multiprocessor, and times over the floor
    measured.py, fit.py                  beside what a GPU took
    static.py, triton.py                 what can be counted of code that is not interpreted
rows.py says what the table is of, table.py makes it, and document.py reads it.
"""
