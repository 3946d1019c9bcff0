"""Tests of what the environment chooses when the package is imported: a GPU's kernels on the CPU,
and the other instruction sets of the CPU.

Each file runs in a process of its own, which processes.py starts. The judges are those of every
backend.
"""
