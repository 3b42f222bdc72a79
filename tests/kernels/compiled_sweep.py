"""Prints, as JSON, what every tile of every sweep launches and compiles to for Hopper; in a process that compiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from kernels.bench.works import sweep
from kernels.inspect import compilation, shipped
from kernels.inspect.shipped import Call

_ATTENTION, _DTYPE, _ARCH = (2, 3, 64, 197, 64), torch.bfloat16, 90
_GUIDED = frozenset({"mask", "bias", "mass", "query mask"})
_CALLS: dict[str, Callable[[], list[Call]]] = {
    "sweep, attention forward": lambda: [*shipped.cross_attention(_ATTENTION, _DTYPE, frozenset({"mask"}))][:1],
    "sweep, attention backward": lambda: [*shipped.cross_attention(_ATTENTION, _DTYPE, frozenset({"mask"}))][1:],
    "sweep, attention backward with bias and mass": lambda: [*shipped.cross_attention(_ATTENTION, _DTYPE, _GUIDED)][1:],
    "sweep, info_nce": lambda: [*shipped.info_nce(16384, 768, _DTYPE, "chunked", False)],
    "sweep, gated_residual_norm": lambda: [*shipped.gated_residual_norm(16384, 768, _DTYPE, True, False)],
    "sweep, grouped_info_nce backward": lambda: [*shipped.grouped_info_nce((256, 64, 256), _DTYPE, False)][1:],
}


def compiled() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Work -> name of the tiles -> a row a kernel, as of `kernels.inspect.compile_report`."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for one in sweep.SWEEPS:
        for name, stand in {"kernels": {}, **one.alternatives()}.items():
            with sweep._instead(one.module, stand):
                launched = compilation.launches(_CALLS[one.work](), _ARCH)
            found.setdefault(one.work, {})[name] = compilation.compile_all(launched)
    return found


if __name__ == "__main__":
    print(json.dumps(compiled()))
