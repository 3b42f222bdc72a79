"""The benchmarks that `pytest --benchmark-only kernels/` finds."""
