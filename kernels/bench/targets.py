"""What the kernels are to reach, as ratios within one report, and how far a report's rows reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kernels.bench.measure.rows import OURS, Row
from kernels.bench.works.attention import DROPPING, GUIDED, MASKED
from kernels.bench.works.ceilings import PRODUCT
from kernels.bench.works.checks import REPEATS
from kernels.bench.works.contrast import LARGEST, PEERS_AT, WIDTH, work_of
from kernels.bench.works.fusion import INFERENCE, PRODUCTS, TRAINING, TRAINING_SMALL
from kernels.bench.works.peers import COMPILED, INF_CL, SDPA, SIGLIP

_LARGE = 2**16


class Measured:
    """A report's rows, by what is asked of them; None for what was not measured."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    def row(self, work: str, variant: str, launch: str = "eager") -> Row | None:
        return next(
            (
                row
                for row in self.rows
                if "ms" in row and (row["work"], row["variant"], row["launch"]) == (work, variant, launch)
            ),
            None,
        )

    def ms(self, work: str, variant: str, launch: str = "eager") -> float | None:
        """The median."""
        row = self.row(work, variant, launch)
        return None if row is None else row["ms"]["p50"]

    def field(self, work: str, variant: str, name: str) -> float | None:
        row = self.row(work, variant)
        return None if row is None else row.get(name)

    def best_sdpa(self, work: str, launch: str = "eager") -> tuple[str, float] | None:
        """The fastest SDPA backend among those whose gradients were right."""
        right = {row["variant"] for row in self.rows if row["work"] == MASKED and row.get("right")}
        times = [
            (row["ms"]["p50"], row["variant"])
            for row in self.rows
            if "ms" in row and (row["work"], row["launch"]) == (work, launch) and row["variant"].startswith(SDPA)
        ]
        best = min((entry for entry in times if entry[1] in right), default=None)
        return None if best is None else (best[1], best[0])

    def changing_results(self) -> int | None:
        """How many outputs and gradients had other bits in one of the runs; a check that failed counts as one."""
        repeated = [row for row in self.rows if row.get("check") == REPEATS]
        return sum(len(row.get("differing", ["it failed"])) for row in repeated) if repeated else None


Value = Callable[[Measured], float | None]


@dataclass(frozen=True)
class Target:
    """`value` of a report is to be at least `bound` (or at most, where less is better)."""

    work: str
    measure: str
    bound: float
    value: Value
    at_most: bool = False
    against: Callable[[Measured], str | None] = lambda measured: None

    @property
    def wanted(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def _faster(work: str, peer: str, ours: str = "eager", theirs: str = "eager") -> Value:
    """The peer's time over ours, each launched as named."""
    return lambda m: _ratio(m.ms(work, peer, theirs), m.ms(work, OURS, ours))


def _faster_than_sdpa(work: str, launch: str = "eager") -> Value:
    def value(m: Measured) -> float | None:
        best = m.best_sdpa(work, launch)
        return None if best is None else _ratio(best[1], m.ms(work, OURS, launch))

    return value


def _best_backend(work: str, launch: str = "eager") -> Callable[[Measured], str | None]:
    return lambda m: None if (best := m.best_sdpa(work, launch)) is None else best[0]


def _own(work: str, plain: str) -> Value:
    return lambda m: _ratio(m.ms(work, OURS), m.ms(plain, OURS))


def _outside_products(m: Measured) -> float | None:
    """In CUDA graphs, so that it is the GPU's time and not the launches'."""
    inside = m.ms(TRAINING, PRODUCTS, "graph")
    ours, eager = m.ms(TRAINING, OURS, "graph"), m.ms(TRAINING, "eager", "graph")
    return None if inside is None or ours is None or eager is None else _ratio(ours - inside, eager - inside)


def _share_of_product_rate(m: Measured) -> float | None:
    ms, rate = m.ms(work_of(_LARGE), OURS), m.field(PRODUCT, "torch", "rate")
    return _ratio(None if ms is None else 4 * 2 * _LARGE**2 * WIDTH / (1e-3 * ms), rate)


def _memory_ratio(m: Measured) -> float | None:
    ours, eager = (m.field(work_of(_LARGE), variant, "extra_bytes") for variant in (OURS, "eager"))
    return _ratio(ours, eager)


def _largest_gigabytes(m: Measured) -> float | None:
    extra, inputs = (m.field(work_of(LARGEST), OURS, name) for name in ("extra_bytes", "input_bytes"))
    return None if extra is None or inputs is None else (extra + inputs) / 1e9


def _largest_seconds(m: Measured) -> float | None:
    ms = m.ms(work_of(LARGEST), OURS)
    return None if ms is None else ms / 1e3


_SDPA = "times faster than the best SDPA backend whose gradients are right"
_SDPA_IN_GRAPHS = f"{_SDPA}, both in graphs"
_EAGER = "times faster than eager"
_FASTER = "times faster than"

TARGETS = (
    Target(MASKED, _SDPA, 1.3, _faster_than_sdpa(MASKED), against=_best_backend(MASKED)),
    Target(MASKED, _EAGER, 2.5, _faster(MASKED, "eager")),
    Target(GUIDED, _EAGER, 2.5, _faster(GUIDED, "eager")),
    Target(GUIDED, "times our own time without bias and mass", 1.4, _own(GUIDED, MASKED), at_most=True),
    Target(DROPPING, _SDPA, 1.5, _faster_than_sdpa(DROPPING), against=_best_backend(DROPPING)),
    Target(DROPPING, "times our own time without dropout", 1.3, _own(DROPPING, MASKED), at_most=True),
    # The same in CUDA graphs, where no launch waits for Python: what the kernels themselves are worth.
    Target(MASKED, _SDPA_IN_GRAPHS, 1.3, _faster_than_sdpa(MASKED, "graph"), against=_best_backend(MASKED, "graph")),
    Target(MASKED, f"{_EAGER}, both in graphs", 2.5, _faster(MASKED, "eager", "graph", "graph")),
    Target(GUIDED, f"{_EAGER}, both in graphs", 2.5, _faster(GUIDED, "eager", "graph", "graph")),
    Target(
        DROPPING, _SDPA_IN_GRAPHS, 1.5, _faster_than_sdpa(DROPPING, "graph"), against=_best_backend(DROPPING, "graph")
    ),
    Target(TRAINING, "times eager's time outside matrix products", 0.5, _outside_products, at_most=True),
    Target(TRAINING, _EAGER, 1.25, _faster(TRAINING, "eager")),
    Target(TRAINING, f"{_FASTER} torch.compile", 1.0, _faster(TRAINING, COMPILED)),
    Target(TRAINING_SMALL, "times faster in a graph than eager", 3.0, _faster(TRAINING_SMALL, "eager", "graph")),
    Target(TRAINING_SMALL, f"{_FASTER} eager, both in graphs", 1.2, _faster(TRAINING_SMALL, "eager", "graph", "graph")),
    Target(INFERENCE, "times faster in a graph than eager", 3.0, _faster(INFERENCE, "eager", "graph")),
    Target(INFERENCE, f"{_FASTER} eager, both in graphs", 1.2, _faster(INFERENCE, "eager", "graph", "graph")),
    Target(work_of(PEERS_AT), _EAGER, 2.0, _faster(work_of(PEERS_AT), "eager")),
    Target(work_of(PEERS_AT), f"{_FASTER} torch.compile", 1.5, _faster(work_of(PEERS_AT), COMPILED)),
    Target(work_of(PEERS_AT), f"{_FASTER} Inf-CL", 3.0, _faster(work_of(PEERS_AT), INF_CL)),
    Target(work_of(_LARGE), "of siglip-kernel's speed", 0.9, _faster(work_of(_LARGE), SIGLIP)),
    Target(work_of(_LARGE), "of the measured rate of matrix products", 0.6, _share_of_product_rate),
    Target(work_of(_LARGE), "of eager's extra memory", 1 / 25, _memory_ratio, at_most=True),
    Target(work_of(LARGEST), "GB, inputs included", 12, _largest_gigabytes, at_most=True),
    Target(work_of(LARGEST), "seconds", 20, _largest_seconds, at_most=True),
    Target("every operator", f"results without {REPEATS}", 0, Measured.changing_results, at_most=True),
)

ATTENTION_ON_A_CPU = "cross_attention on a CPU"
_PAIRS_ON_A_CPU = 8192


def on_a_cpu(pairs: int) -> str:
    return f"info_nce on a CPU, N {pairs}"


def _on_a_cpu(field: Callable[[Row], float]) -> Value:
    def value(m: Measured) -> float | None:
        ours, eager = (m.row(on_a_cpu(_PAIRS_ON_A_CPU), variant) for variant in ("torch, chunked", "eager"))
        return None if ours is None or eager is None else _ratio(field(ours), field(eager))

    return value


CPU_TARGETS = (
    Target(
        on_a_cpu(_PAIRS_ON_A_CPU),
        "of eager's time, chunked",
        1.0,
        _on_a_cpu(lambda row: row["ms"]["p50"]),
        at_most=True,
    ),
    Target(
        on_a_cpu(_PAIRS_ON_A_CPU),
        "of eager's extra memory, chunked",
        1 / 8,
        _on_a_cpu(lambda row: row["extra_bytes"]),
        at_most=True,
    ),
    Target(
        ATTENTION_ON_A_CPU,
        "of SDPA's time",
        1.0,
        lambda m: _ratio(m.ms(ATTENTION_ON_A_CPU, "torch"), m.ms(ATTENTION_ON_A_CPU, "SDPA")),
        at_most=True,
    ),
)


def judge(rows: Iterable[Row], targets: Sequence[Target] = TARGETS) -> list[dict[str, Any]]:
    """A verdict a target: its value, and whether it is met; both None where it was not measured."""
    measured = Measured(rows)
    verdicts = []
    for target in targets:
        value = target.value(measured)
        met = None if value is None else (value <= target.bound if target.at_most else value >= target.bound)
        verdicts.append(
            {
                "work": target.work,
                "measure": target.measure,
                "target": target.wanted,
                "bound": target.bound,
                "at_most": target.at_most,
                "against": target.against(measured),
                "value": value,
                "met": met,
            }
        )
    return verdicts
