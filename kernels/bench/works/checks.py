"""Is every operator right on this GPU: against float64, in its bits over many runs, and inside a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

import kernels
from kernels.bench.measure import parity
from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import Sample, Variant, checked, forward_backward
from kernels.bench.works import fusion, inputs
from kernels.dispatch import Mode

PARITY = "against float64"
REPEATS = "the same bits over 50 runs"
SEEDED = "a seed tensor under a CUDA graph"
_RUNS = 50
_REHEARSED_RUNS = 1
_SEED = 5

Draw = Callable[[Device, torch.dtype], Sample]


@dataclass(frozen=True)
class Case:
    """An operator with options, and how to draw an input for it: at full size, and at a tiny one."""

    name: str
    operator: Callable[..., Any]
    draw: Draw
    tiny: Draw


def _attention(name: str, shape: inputs.AttentionShape, tiny: inputs.AttentionShape, **options: Any) -> Case:
    def drawn(shape: inputs.AttentionShape) -> Draw:
        return lambda device, dtype: inputs.attention(device, shape, dtype, 0, **options)

    operator = partial(kernels.cross_attention, seed=_SEED)
    return Case(f"cross_attention, {name}", operator, drawn(shape), drawn(tiny))


def _norm(name: str, shape: tuple[int, ...], **options: Any) -> Case:
    def drawn(shape: tuple[int, ...]) -> Draw:
        return lambda device, dtype: inputs.norm(device, shape, dtype, 0, **options)

    operator = partial(kernels.gated_residual_norm, seed=_SEED)
    return Case(f"gated_residual_norm, {name}", operator, drawn(shape), drawn((2, 3, 16)))


def _pairs(mode: Mode, width: int) -> Case:
    def drawn(count: int, width: int) -> Draw:
        def draw(device: Device, dtype: torch.dtype) -> Sample:
            sample = inputs.pairs(device, (count, width), dtype, 0)
            mask_N = inputs.random_mask(device, 1, count, inputs.generator(device, 1))[0]
            return replace(sample, arguments=sample.arguments | {"row_mask": mask_N})

        return draw

    operator = partial(kernels.info_nce, mode=mode)
    return Case(f"info_nce, {mode}, D {width}", operator, drawn(2501, width), drawn(9, 16))


def _groups(count: int, width: int) -> Case:
    def drawn(shape: tuple[int, int, int]) -> Draw:
        return lambda device, dtype: inputs.groups(device, shape, dtype, 0)

    name = f"grouped_info_nce, N {count}, D {width}"
    return Case(name, kernels.grouped_info_nce, drawn((64, count, width)), drawn((2, 5, 16)))


ATTENTION = (
    _attention("key mask", (16, 12, 64, 197, 64), (1, 2, 5, 19, 16), guided=False),
    _attention("bias and mass", (16, 12, 64, 197, 64), (1, 2, 5, 19, 16), guided=True),
    _attention("all, dropout", (16, 12, 64, 197, 64), (1, 2, 5, 19, 16), guided=True, dropout_p=inputs.DROPOUT),
    _attention("128 queries", (8, 12, 128, 257, 64), (1, 1, 17, 19, 16), guided=True),
    _attention("long", (2, 4, 200, 799, 64), (1, 1, 5, 70, 16), guided=True, dropout_p=inputs.DROPOUT),
    _attention("wide heads", (4, 4, 113, 203, 128), (1, 1, 5, 19, 32), guided=True),
    _attention("odd heads", (3, 5, 3, 41, 59), (1, 1, 3, 11, 23), guided=True),
)
NORM = (
    _norm("gate and dropout", (256, 64, 768), gated=True, dropout_p=inputs.DROPOUT),
    _norm("gate", (256, 64, 768), gated=True, dropout_p=0.0),
    _norm("no gate", (17, 61, 771), gated=False, dropout_p=inputs.DROPOUT),
)
PAIRS = (_pairs("save", 768), _pairs("chunked", 768), _pairs("resident", 256), _pairs("chunked", 123))
GROUPS = (_groups(64, 256), _groups(128, 768), _groups(37, 123))


def rows(device: Device, cases: tuple[Case, ...], dtype: torch.dtype) -> Iterator[Row]:
    """Every case against float64 and, in the type that is timed, over many runs."""
    for case in cases:
        facts = {"work": case.name, "variant": "kernels", "dtype": str(dtype).removeprefix("torch.")}
        sample = (case.tiny if device.rehearses else case.draw)(device, dtype)
        yield from checked(device, facts | {"check": PARITY}, partial(_parity, device, case, sample, dtype))
        if dtype == device.dtype:
            ours = forward_backward(partial(case.operator, impl=device.impl))
            yield from checked(device, facts | {"check": REPEATS}, partial(_repeats, device, ours, sample))


def stack_rows(device: Device) -> Iterator[Row]:
    """The fusion stack: its gradients, its bits over many runs, and dropout in a graph."""
    sizes, batch, words = ((32, 2, 3), 2, 5) if device.rehearses else ((768, 12, 14), 64, 64)
    facts = {"variant": "kernels", "dtype": str(device.dtype).removeprefix("torch.")}
    for work, training in (("fusion, training", True), ("fusion, inference", False)):
        stacks = fusion.stacks_of_one_model(device, device.dtype, sizes, training)
        sample = fusion.batch_of(device, stacks["kernels"], batch, words, 0)
        step = _seeded_step(forward_backward(stacks["kernels"]))
        yield from checked(device, facts | {"work": work, "check": REPEATS}, partial(_repeats, device, step, sample))
    stacks = fusion.stacks_of_one_model(device, device.dtype, sizes, training=True)
    for model in stacks.values():
        model.eval()  # without dropout, of which each draws its own
    yield from checked(
        device, facts | {"work": "fusion, training", "check": PARITY}, partial(_stack_parity, device, stacks)
    )
    for case in (ATTENTION[2], NORM[0]):
        check = partial(_seeds_under_a_graph, device, case)
        yield from checked(device, facts | {"work": case.name, "check": SEEDED}, check)


def _parity(device: Device, case: Case, sample: Sample, dtype: torch.dtype) -> Row:
    expected, bounds = parity.reference_of(case.operator, sample, dtype)
    return parity.judged(forward_backward(partial(case.operator, impl=device.impl)), sample, expected, bounds)


def _repeats(device: Device, variant: Variant, sample: Sample) -> Row:
    runs = _REHEARSED_RUNS if device.rehearses else _RUNS
    changed = parity.differing(lambda: parity.named_results(variant, sample), runs)
    return {
        "runs": runs,
        "results": len(parity.named_results(variant, sample)),
        "differing": changed,
        "right": not changed,
    }


def _seeded_step(variant: Variant) -> Variant:
    def step(sample: Sample) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(0)  # the stack draws its dropout seeds
        return variant.step(sample)

    return Variant(step)


def _stack_parity(device: Device, stacks: dict[str, Any]) -> Row:
    """Ours against the same stack in float64 on eager operators; bounded by the eager stack's own error."""
    batch, words = (2, 5) if device.rehearses else (16, 64)
    wide = fusion.batch_of(device, stacks["eager"].train(), batch, words, 0)
    results = {name: parity.named_results(forward_backward(model.eval()), wide) for name, model in stacks.items()}
    exact = stacks["eager"].double()
    sample = replace(parity.in_float64(wide), parameters=tuple(exact.parameters()))
    expected = parity.named_results(forward_backward(exact), sample)
    errors = parity.relative_errors(results["kernels"], expected)
    bounds = parity.limits(parity.relative_errors(results["eager"], expected), device.dtype)
    return {"errors": errors, "limits": bounds, "right": parity.within(errors, bounds)}


def _seeds_under_a_graph(device: Device, case: Case) -> Row:
    """A replay after the seed tensor was changed is what a call with that seed is, to the bit."""
    sample = (case.tiny if device.rehearses else case.draw)(device, device.dtype)
    seed = torch.zeros((), dtype=torch.int64, device=device.name)
    variant = forward_backward(partial(case.operator, impl=device.impl, seed=seed))
    replay = device.graph(lambda: variant.step(sample))
    replayed = []
    same = True
    for value in (_SEED, _SEED + 2**33):
        seed.fill_(value)
        replayed.append([tensor.clone() for tensor in replay()])
        alone = forward_backward(partial(case.operator, impl=device.impl, seed=value))
        same &= parity.bitwise_equal(replayed[-1], alone.step(sample))
    changes = not parity.bitwise_equal(replayed[0], replayed[1])
    return {"same_as_without_a_graph": same, "seed_changes_it": changes, "right": same and changes}
