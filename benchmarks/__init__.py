"""What produces the figures in README.md: run from the root of the repository.

python -m benchmarks.cpu      fused against naive, torch.compile, cross-entropy, Dice and the floor
python -m benchmarks.sweep    the same against naive and the floor: other dtypes, layouts, sizes
pytest benchmarks             single operators
"""
