"""`python -m repro efficiency`: measure on this machine, and write results/efficiency/cpu.json and gpu.json.

A report is a list of rows, each of a section; a section that fails says why and leaves the others alone.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clamp.config import ConfigError
from clamp.data.collate import Batch
from clamp.inference.compile import compiled
from clamp.model import Clamp
from kernels.bench.measure.timing import explain
from kernels.bench.report import write
from repro.efficiency import profile, soundness
from repro.efficiency.corpus import corpus_batches, passes
from repro.efficiency.effort import CORPUS, FULL, LARGE, MINUTES, QUICK, SMALL, TRAINING, Effort
from repro.efficiency.memory import peaks
from repro.efficiency.names import ANY_LENGTH, EVERYTHING, FUSION_ALONE, ONE_LENGTH, PROFILE_VARIANTS, SCHEMA
from repro.efficiency.steps import infer, inference_parts, make_optimiser, train, training_parts
from repro.efficiency.systems import ENCODERS, GENERATIVE, PAPER, TINY, Encoders, Size, build, make_batch, systems
from repro.efficiency.timing import Call, Rounds, Seconds, ratios, spread, timed_rounds
from repro.plan.profiles import Inputs
from repro.records.measurements import CostReport, read_reports
from repro.run import provenance
from repro.run.source_hash import source_hash

Row = dict[str, Any]
_ON_CUDA = 0.2
_COMPILED = (  # what is compiled, for which texts, and the batch
    (FUSION_ALONE, ANY_LENGTH, SMALL),
    (FUSION_ALONE, ONE_LENGTH, SMALL),
    (EVERYTHING, ANY_LENGTH, SMALL),
    (EVERYTHING, ONE_LENGTH, SMALL),
    (EVERYTHING, ANY_LENGTH, LARGE),
)


class Skipped(Exception):
    """Why a section does not apply here."""


class Bench:
    """The systems on one device, and the sections that measure them; each section yields rows."""

    def __init__(self, size: Size, effort: Effort, device: torch.device) -> None:
        self.size, self.effort, self.device = size, effort, device
        self.shared = Encoders.of(size, size.image_size, device)
        self.models: dict[str, nn.Module] = {name: build(name, size, device, self.shared) for name in systems(device)}

    @property
    def own(self) -> str:
        """CLAMP on the operators that a run takes on this device."""
        return "clamp_triton" if self.device.type == "cuda" else "clamp_torch"

    def _clamp(self) -> Clamp:
        model = self.models[self.own]
        assert isinstance(model, Clamp)
        return model

    def sections(self) -> dict[str, Callable[[], Iterator[Row]]]:
        return {
            "soundness": self._soundness,
            "counts": self._counts,
            "latency": self._latency,
            "sizes": self._sizes,
            "inference parts": self._inference_parts,
            "training": self._training,
            "corpus": self._corpus,
            "compiled": self._compiled,
            "profile": self._profile,
            "memory": self._memory,
        }

    def _soundness(self) -> Iterator[Row]:
        if self.device.type == "cpu" and self.size is PAPER:
            raise Skipped("on a CPU the tests hold it, at a size at which it takes seconds")
        yield from soundness.rows(self.size, self.device, self.own, self.effort.soundness_steps)

    def _counts(self) -> Iterator[Row]:
        """Parameters, and FLOPs of one tweet."""
        for name, model in self.models.items():
            batch = make_batch(self.size, 1, self.device, name=name)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            yield {"variant": name, "parameters": parameters, "flops": flops(model, partial(infer, model, batch))}

    def _latency(self) -> Iterator[Row]:
        """Every system at SMALL and LARGE; CLAMP and the encoders at the batches between."""
        ours = {name: self.models[name] for name in (ENCODERS, self.own)}
        for count in self.effort.batches:
            shown = self.models if count in (SMALL, LARGE) else ours
            calls = {
                name: partial(infer, model, make_batch(self.size, count, self.device, name=name))
                for name, model in shown.items()
            }
            if count == SMALL:
                timed_rounds(calls, Rounds(2, 0.0), self.device)  # first calls allocate, and on CUDA compile
            rounds = {SMALL: self.effort.small, LARGE: self.effort.large}.get(count, self.effort.between)
            yield from _timed(timed_rounds(calls, rounds, self.device), {"batch": count})

    def _sizes(self) -> Iterator[Row]:
        """Images of other sizes, then texts of other lengths."""
        for side in self.size.image_sizes:
            shared = Encoders.of(self.size, side, self.device, self.shared.text)
            models = {name: build(name, self.size, self.device, shared) for name in (ENCODERS, self.own)}
            batch = make_batch(self.size, 1, self.device, image_size=side)
            yield from self._of_size(models, batch, {"regions": self.size.regions(side)})
        for tokens in self.size.token_counts:
            models = {name: self.models[name] for name in (ENCODERS, self.own)}
            yield from self._of_size(models, make_batch(self.size, 1, self.device, tokens=tokens), {"tokens": tokens})

    def _of_size(self, models: dict[str, nn.Module], batch: Any, facts: Row) -> Iterator[Row]:
        calls = {name: partial(infer, model, batch) for name, model in models.items()}
        counted = {name: flops(models[name], call) for name, call in calls.items()}  # and warms up
        for row in _timed(timed_rounds(calls, self.effort.sizes, self.device), facts):
            yield row | {"flops": counted[row["variant"]]}

    def _inference_parts(self) -> Iterator[Row]:
        batch = make_batch(self.size, SMALL, self.device)
        yield from _by_part(lambda: inference_parts(self._clamp(), batch), self.effort.parts, SMALL)

    def _training(self) -> Iterator[Row]:
        """A whole step of every system, then one of CLAMP by part. The encoders' optimiser is shared as they are."""
        encoders = make_optimiser([*self.shared.text.parameters(), *self.shared.vision.parameters()])
        of_encoders = {id(parameter) for group in encoders.param_groups for parameter in group["params"]}
        calls = {}
        for name, model in self.models.items():
            own = make_optimiser(p for p in model.parameters() if id(p) not in of_encoders)
            optimisers = [own] if name == GENERATIVE else [encoders, own]
            batch = make_batch(self.size, TRAINING, self.device, name=name)
            calls[name] = partial(train, model.train(), batch, optimisers)
            if name == self.own:
                by_part = partial(training_parts, self._clamp(), batch, optimisers)
        timed_rounds(calls, Rounds(1, 0.0), self.device)  # an optimiser's first step makes its state
        yield from _timed(timed_rounds(calls, self.effort.training, self.device), {"batch": TRAINING})
        self._clamp().train()
        yield from _by_part(by_part, self.effort.parts, TRAINING)
        for model in self.models.values():
            model.zero_grad(set_to_none=True)
            model.eval()

    def _corpus(self) -> Iterator[Row]:
        batches = corpus_batches(self.size, self.effort.corpus_tweets, CORPUS, self.device)
        yield from passes(self._clamp(), batches, self.effort.corpus, self.device)

    def _compiled(self) -> Iterator[Row]:
        """CLAMP and the encoders compiled: in turns with each other, and each with itself as it is.

        CLAMP is on PyTorch's own operators. Where its fusion alone is compiled, the encoders are as they are.
        """
        if not self.effort.compiles:
            raise Skipped("compilation takes minutes")
        for what, form, count in _COMPILED:
            batch = make_batch(self.size, count, self.device)
            eager: dict[str, Call] = {n: partial(infer, self.models[n], batch) for n in (ENCODERS, "clamp_torch")}
            programs = self._programs(what, form, batch)
            taken = {name: _seconds(program) for name, program in programs.items()}
            both = timed_rounds({ENCODERS: eager[ENCODERS]} | programs, self.effort.compiled, self.device)
            for row in _timed(both, {"compiled": what, "form": form, "batch": count}):
                name = row["variant"]
                if name in programs:
                    calls = {"eager": eager[name], "compiled": programs[name]}
                    alone = timed_rounds(calls, self.effort.compiled, self.device)
                    gain = ratios(alone["compiled"], alone["eager"])
                    yield row | {"gain": gain, "compilation_seconds": taken[name]}
            torch.compiler.reset()  # programs of one class count together, and torch keeps but a few

    def _programs(self, what: str, form: str, batch: Batch) -> dict[str, Call]:
        """Inference of the systems that are compiled, each when it is first called."""
        any_length = form == ANY_LENGTH
        try:
            if what == FUSION_ALONE:
                model = build("clamp_torch", self.size, self.device, self.shared)
                assert isinstance(model, Clamp)
                model.fusion.forward = compiled(model.fusion.forward, any_length=any_length)  # type: ignore[method-assign]
                return {"clamp_torch": partial(infer, model, batch)}
            forwards = {name: self.models[name].forward for name in (ENCODERS, "clamp_torch")}
            return {n: partial(infer, compiled(f, any_length=any_length), batch) for n, f in forwards.items()}
        except ConfigError as error:
            raise Skipped(str(error)) from None

    def _profile(self) -> Iterator[Row]:
        made = profile.made(PROFILE_VARIANTS, SMALL, self.device)
        calls = {name: partial(infer, model, batch) for name, (model, batch) in made.items()}
        timed_rounds(calls, Rounds(2, 0.0), self.device)
        timed = timed_rounds(calls, self.effort.profile, self.device)
        yield from _timed(timed, {"batch": SMALL}, reference="full")

    def _memory(self) -> Iterator[Row]:
        yield from peaks(list(self.models), self.size, self.device, LARGE, TRAINING)


@torch.no_grad()
def flops(model: nn.Module, call: Callable[[], object]) -> int:
    """Of one call, a multiply-add counted as two: CLAMP on the reference operators, attention in its plain form."""
    fixed = [(part, part.operators) for part in model.modules() if isinstance(getattr(part, "operators", None), str)]
    for part, _ in fixed:
        setattr(part, "operators", "reference")  # noqa: B010 (no attribute that Module knows)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        for part, operators in fixed:
            setattr(part, "operators", operators)  # noqa: B010
    flops: int = counter.get_total_flops()
    return flops


def _seconds(call: Call) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _timed(seconds: Seconds, facts: Row, reference: str = ENCODERS) -> Iterator[Row]:
    """A row a call: milliseconds, and each round's ratio to the reference."""
    for name, values in seconds.items():
        yield facts | {
            "variant": name,
            "ms": spread(values, 1e3),
            "ratio": ratios(values, seconds[reference]),
            "rounds": len(values),
        }


def _by_part(call: Callable[[], dict[str, float]], rounds: Rounds, batch: int) -> Iterator[Row]:
    found: list[dict[str, float]] = []
    timed_rounds({"": lambda: found.append(call())}, rounds, torch.device("cpu"))
    for part in found[0]:
        yield {"part": part, "batch": batch, "ms": spread([seconds[part] for seconds in found], 1e3)}


def measure(
    size: Size,
    effort: Effort,
    device: torch.device,
    argv: Sequence[str],
    keep: Callable[[dict[str, Any]], None] = lambda _: None,
    until: float = math.inf,
) -> dict[str, Any]:
    """The report of one device, handed to `keep` as it stands after every row and section.

    until: of time.monotonic(), after which no section is begun.
    """
    torch.manual_seed(0)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "gpu" if device.type == "cuda" else "cpu",
        "quick": size is TINY,
        "provenance": _provenance(device, argv, datetime.now(UTC)),
        "setting": {"tokens": size.tokens, "regions": size.regions(size.image_size), "width": size.width},
        "sections": {},
        "rows": [],
    }
    for name, section in Bench(size, effort, device).sections().items():
        begun, outcome = time.perf_counter(), report["sections"].setdefault(name, {})
        try:
            if time.monotonic() >= until:
                raise Skipped("not begun: the minutes were up")
            for row in section():
                report["rows"].append({"section": name, **row})
                keep(report)
        except Skipped as reason:
            outcome["skipped"] = str(reason)
        except Exception as error:
            outcome["error"] = explain(error)
        outcome["seconds"] = round(time.perf_counter() - begun, 1)
        keep(report)
        said = outcome.get("error") or outcome.get("skipped") or f"{outcome['seconds']} s"
        print(f"{device.type}: {name}: {said}", file=sys.stderr)
    return report


def _provenance(device: torch.device, argv: Sequence[str], started: datetime) -> dict[str, Any]:
    """Of what is begun now; a CPU's report names no GPU."""
    made_by = provenance.collect(
        provenance.Invocation.start(["python", "-m", "repro", *argv]),
        Inputs({}, None, source_hash(__name__)),
        torch.get_num_threads(),
        started,
    )
    if device.type == "cpu":
        hardware = provenance.hardware_label(made_by.cores, made_by.cpu, None)
        made_by = made_by.model_copy(update={"gpu": None, "driver": None, "hardware": hardware})
    found: dict[str, Any] = made_by.model_dump(mode="json")
    return found


def devices() -> list[str]:
    """The CPU, and the GPU where there is one."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def run(out: Path, devices: Sequence[str], quick: bool, argv: Sequence[str], minutes: float | None = None) -> int:
    """Measure on each of the devices ("cpu", "cuda"), and keep every row when it is there.

    Exit code 1 where a section failed or training is not sound. After `minutes` no section is begun, and those before
    are the shorter for it.
    ConfigError where a rehearsal would take the place of a measurement, StoreError where what is there is no report.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    size, effort = (TINY, QUICK) if quick else (PAPER, FULL)
    if minutes is not None and not quick:
        effort = effort.shortened(min(1.0, minutes / MINUTES))
    files = {name: out / "results" / "efficiency" / f"{'gpu' if name == 'cuda' else name}.json" for name in devices}
    for file in files.values() if quick else ():
        if any(not report.quick for report in read_reports(CostReport, file.parent, [file.stem]).values()):
            raise ConfigError(f"{file}: holds a measurement; give the rehearsal an --out of its own")
    failed = False
    for name, file in files.items():
        of_device = effort.shortened(_ON_CUDA) if name == "cuda" else effort
        report = measure(size, of_device, torch.device(name), argv, partial(write, path=file), until)
        failed |= any("error" in section for section in report["sections"].values())
        failed |= not all(row.get("right", True) for row in report["rows"])
    return int(failed)
