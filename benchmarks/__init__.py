"""What produces the figures in README.md: run from the root of the repository.

python -m benchmarks.cpu         fused against naive, torch.compile, cross-entropy, Dice, the floor
python -m benchmarks.objectives  cross-entropy + JML and distillation against naive and the floor
python -m benchmarks.sweep       JML against naive and the floor: other dtypes, layouts, sizes
python -m benchmarks.gpu         the kernels for GPUs, and their tests, on a GPU (`make gpu`)
pytest benchmarks                single operators
"""
