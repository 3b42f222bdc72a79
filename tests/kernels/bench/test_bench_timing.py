"""How the report times and judges: in turns, between events, against float64, and against forms that are right."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import kernels
from kernels.bench.local import one
from kernels.bench.measure import parity
from kernels.bench.measure.devices import Cpu, Cuda, Rehearsal
from kernels.bench.measure.timing import Sample, Variant, compare, forward_backward
from kernels.bench.works import checks, eager, inputs, peers

# --- timing ---


def scaled_sample(factor: float = 1.0) -> Sample:
    return Sample({"x": torch.full((3,), factor).requires_grad_(), "mask": torch.ones(3)}, (torch.ones(3),))


def test_variants_take_turns_and_one_that_fails_is_left_out() -> None:
    order: list[tuple[str, float]] = []

    def noting(name: str) -> Variant:
        def step(sample: Sample) -> tuple[torch.Tensor, ...]:
            order.append((name, sample.arguments["x"][0].item()))
            time.sleep(2e-4)
            return ()

        return Variant(step)

    def refuses(_: Sample) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("No available kernel\nmore of it")

    variants = {"a": noting("a"), "peer": Variant(refuses), "b": noting("b")}
    samples = [scaled_sample(1.0), scaled_sample(2.0)]
    found = list(compare(Cpu(), {"work": "w"}, variants, samples, launches=("eager",), seconds=0.0))
    assert found[0] == {"work": "w", "variant": "peer", "launch": "eager", "error": "RuntimeError: No available kernel"}
    assert [(row["variant"], row["work"], row["inputs"]) for row in found[1:]] == [("a", "w", 2), ("b", "w", 2)]
    timed = order[-found[1]["calls"] - found[2]["calls"] :]
    assert "".join(name for name, _ in timed) == "abbaabbaabba"
    assert {value for name, value in timed if name == "a"} == {1.0, 2.0}


def test_a_step_yields_outputs_and_the_gradients_of_what_wants_one() -> None:
    given = scaled_sample(3.0)
    sample = Sample(given.arguments | {"y": torch.ones(3, requires_grad=True)}, given.directions)
    results = parity.named_results(forward_backward(lambda x, mask, y: x * x * mask * y), sample)
    assert list(results) == ["output 0", "gradient of x", "gradient of y"]
    assert [results[f"gradient of {name}"].tolist() for name in "xy"] == [[6.0] * 3, [9.0] * 3]
    assert list(parity.named_results(forward_backward(lambda x, **_: x), Sample(sample.arguments))) == ["output 0"]


class NotedBenchmark:
    """What pytest-benchmark's fixture takes."""

    def __init__(self) -> None:
        self.group, self.extra_info, self.rounds = "", {}, 0

    def pedantic(self, step: Callable[[], None], rounds: int) -> None:
        step()
        self.rounds = rounds


def test_one_variant_under_pytest_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one, "static_facts", lambda operator: [{"kernel": f"{operator}_kernel", "spills": 0}])
    sample, benchmark = scaled_sample(), NotedBenchmark()
    one.time(benchmark, Cpu(), "a work", "op", forward_backward(lambda x, mask: x * mask), sample)
    assert benchmark.group == "a work, torch.float32"
    assert benchmark.extra_info == {"compiled for sm_90": [{"kernel": "op_kernel", "spills": 0}]}
    assert 3 <= benchmark.rounds <= 200

    def refuses(**_: torch.Tensor) -> None:
        raise RuntimeError("No available kernel\nmore of it")

    with pytest.raises(pytest.skip.Exception, match=r"^No available kernel$"):
        one.time(benchmark, Cpu(), "a work", "op", forward_backward(refuses), sample)


# --- the GPU's own way of timing, on a GPU that only takes notes ---


class NotedGPU:
    """As much of torch.cuda as `Cuda` uses; every act is noted, and an event's time is the number of acts before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.acts: list[str] = []
        self.held = 100
        for name, stand_in in {
            "synchronize": lambda: self.acts.append("wait"),
            "Event": lambda enable_timing: NotedEvent(self.acts),
            "Stream": lambda: NotedStream(self.acts, "side"),
            "current_stream": lambda: NotedStream(self.acts, "main"),
            "stream": lambda stream: self.noted_context("on side", "off side"),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.acts.append("replay")),
            "graph": lambda graph: self.noted_context("capture", "captured"),
            "memory_allocated": lambda: self.held,
            "reset_peak_memory_stats": lambda: self.acts.append("reset"),
            "max_memory_allocated": lambda: self.held + 40,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    @contextmanager
    def noted_context(self, before: str, after: str) -> Iterator[None]:
        self.acts.append(before)
        yield
        self.acts.append(after)


class NotedEvent:
    def __init__(self, acts: list[str]) -> None:
        self.acts = acts

    def record(self) -> None:
        self.at = len(self.acts)
        self.acts.append("event")

    def elapsed_time(self, end: NotedEvent) -> float:
        return float(end.at - self.at)


class NotedStream:
    def __init__(self, acts: list[str], name: str) -> None:
        self.acts, self.name = acts, name

    def wait_stream(self, other: NotedStream) -> None:
        self.acts.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def noted_gpu(monkeypatch: pytest.MonkeyPatch) -> NotedGPU:
    monkeypatch.setattr(Cuda, "name", "cpu")
    return NotedGPU(monkeypatch)


def test_events_enclose_each_call_and_nothing_waits_between_calls(noted_gpu: NotedGPU) -> None:
    device = Cuda()
    device._flush = SimpleNamespace(zero_=lambda: noted_gpu.acts.append("flush"))  # type: ignore[assignment]
    calls = [lambda: noted_gpu.acts.append("a"), lambda: noted_gpu.acts.extend("bc")]
    assert device.times(calls) == [2.0, 3.0]
    assert noted_gpu.acts == ["wait", *["flush", "event", "a", "event", "flush", "event", "b", "c", "event"], "wait"]


def test_a_graph_is_captured_after_warm_up_and_its_replay_gives_its_results(noted_gpu: NotedGPU) -> None:
    replay = Cuda().graph(lambda: noted_gpu.acts.append("call") or "results")
    assert noted_gpu.acts == [
        "side waits for main", "on side", "call", "call", "call", "off side", "main waits for side",
        "capture", "call", "captured",
    ]  # fmt: skip
    assert replay() == "results"
    assert noted_gpu.acts[-1] == "replay"


def test_extra_memory_is_the_peak_less_what_was_held(noted_gpu: NotedGPU) -> None:
    assert Cuda().extra_bytes(lambda: noted_gpu.acts.append("call")) == 40
    assert noted_gpu.acts == ["wait", "reset", "call", "wait"]


def test_what_takes_too_long_to_prepare_is_interrupted() -> None:
    with pytest.raises(TimeoutError, match="took longer than 0 s"), Cuda().limited(0.05):
        time.sleep(20)
    with Cuda().limited(0.05):
        pass
    time.sleep(0.1)  # no alarm is left


# --- parity ---


def test_limits_follow_the_pytorch_path_and_the_types_own_rounding() -> None:
    errors = {"output 0": 1e-2, "gradient of q": 1e-2, "gradient of k": 1e-9}
    assert parity.limits(errors, torch.float32) == dict.fromkeys(errors, 1e-5)
    bounds = parity.limits(errors, torch.bfloat16)
    assert bounds == {"output 0": 2e-2, "gradient of q": pytest.approx(3e-2), "gradient of k": 2**-8}
    assert parity.within(errors, bounds)
    assert not parity.within(errors | {"gradient of k": math.nan}, bounds)
    assert not parity.within(errors | {"output 0": 2.1e-2}, bounds)


def test_errors_are_relative_and_a_scalars_is_measured_against_the_largest() -> None:
    expected = {"output 0": torch.tensor([30.0, 40.0]), "gradient of scale": torch.tensor(0.01)}
    actual = {"output 0": torch.tensor([30.0, 41.0]), "gradient of scale": torch.tensor(0.02)}
    errors = parity.relative_errors(actual, expected)
    assert errors == {"output 0": pytest.approx(1 / 50), "gradient of scale": pytest.approx(0.01 / 50)}
    assert math.isnan(
        parity.relative_errors(actual | {"output 0": torch.tensor([1.0, math.nan])}, expected)["output 0"]
    )


def test_a_result_whose_bits_change_is_named() -> None:
    runs = iter([0.0, 0.0, -0.0])

    def step() -> dict[str, torch.Tensor]:
        return {"steady": torch.tensor([math.nan]), "changing": torch.tensor(next(runs))}

    assert parity.differing(step, 2) == ["changing"]


@pytest.mark.parametrize("operator", ["cross_attention", "gated_residual_norm", "grouped_info_nce"])
def test_a_planted_error_in_an_operator_is_found(operator: str) -> None:
    cases = {"cross_attention": checks.ATTENTION[1], "gated_residual_norm": checks.NORM[0]}
    case = cases.get(operator, checks.GROUPS[0])

    def wrong(*tensors: Any, impl: str, **options: Any) -> Any:
        result = case.operator(*tensors, impl=impl, **options)
        return (
            result
            if impl != "triton"
            else tuple(1.01 * r for r in result)
            if isinstance(result, tuple)
            else 1.01 * result
        )

    planted = checks.Case(case.name, wrong, case.draw, case.tiny)
    found = list(checks.rows(Rehearsal(), (planted,), torch.float32))
    assert [row["right"] for row in found if row["check"] == checks.PARITY] == [False]


# --- the eager forms compute what the operators compute ---


ATTENTION_SHAPE = (2, 3, 5, 7, 16)
FORMS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Sample]]] = {
    "attention": (eager.cross_attention, kernels.cross_attention, partial(inputs.attention, guided=False)),
    "guided attention": (eager.cross_attention, kernels.cross_attention, partial(inputs.attention, guided=True)),
    "SDPA": (peers.sdpa, kernels.cross_attention, partial(inputs.attention, guided=False)),
    "gate": (eager.gated_residual_norm, kernels.gated_residual_norm, partial(inputs.norm, gated=True, dropout_p=0.0)),
    "no gate": (eager.gated_residual_norm, kernels.gated_residual_norm, partial(inputs.norm, gated=False, dropout_p=0)),
    "pairs": (eager.info_nce, kernels.info_nce, inputs.pairs),
    "pairs, one product": (eager.info_nce_one_product, kernels.info_nce, inputs.pairs),
    "groups": (eager.grouped_info_nce, kernels.grouped_info_nce, inputs.groups),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_an_eager_form_is_its_operator(name: str) -> None:
    form, operator, draw = FORMS[name]
    shape = {"groups": (3, 7, 16), "gate": (2, 3, 16), "no gate": (2, 3, 16)}.get(name, ATTENTION_SHAPE)
    sample = parity.in_float64(draw(Cpu(), (9, 16) if name.startswith("pairs") else shape, torch.float64, 0))
    expected = parity.named_results(forward_backward(partial(operator, impl="reference")), sample)
    errors = parity.relative_errors(parity.named_results(forward_backward(form), sample), expected)
    assert len(errors) >= 4
    assert max(errors.values()) < 1e-6, errors  # the eager mass is float32 whatever the inputs are
