"""What the kernels are, judged without a GPU: what they compile to, and what they move. `python -m kernels.inspect`."""

from kernels.inspect.reports import compile_faults, compile_report, traffic_faults, traffic_report

__all__ = ["compile_faults", "compile_report", "traffic_faults", "traffic_report"]
