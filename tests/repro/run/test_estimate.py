"""What `run` says before it trains: from records, from counted operations, or that it cannot say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import BERT
from finished import record_of
from transformers import AutoConfig, AutoModel

from clamp.baselines import ARCHITECTURES
from clamp.config import override
from clamp.cost import forward_flops
from clamp.data import VOCABULARY, load_splits
from clamp.data.collate import EncodedTweets
from clamp.encoders import word_level_tokenizer
from clamp.pyramid import pooling_constants
from repro.__main__ import main
from repro.plan.profiles import Inputs, plan
from repro.records.files import cell_text, read_cell
from repro.run import estimate, step_cost
from repro.run.published import cell
from repro.run.store import Job

MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "cpu_flops", lambda threads: 2e9 * threads)
    monkeypatch.setattr(estimate, "gpu_driver", lambda: None)


def lines(*jobs: Job, processes: int = 1) -> list[str]:
    return list(estimate.lines(jobs, None, Path("results"), processes))


def publish(job: Job, cpu_seconds: float, **provenance: object) -> None:
    """A record of that run, which took so long."""
    record = record_of(job, **provenance)
    cost = record.result.cost.model_copy(update={"cpu_seconds": cpu_seconds, "peak_memory_bytes": int(1.5e9)})
    record = record.model_copy(update={"result": record.result.model_copy(update={"cost": cost})})
    file = cell(Path("results"), job.run)
    file.parent.mkdir(parents=True, exist_ok=True)
    before = read_cell(file)[0] if file.exists() else []
    file.write_text(cell_text([*before, record], []))


def test_published_runs_of_the_same_config_tell_how_long(make_job: MakeJob) -> None:
    publish(make_job(seed=0), 500.0)
    publish(make_job(seed=1), 700.0)
    jobs = [make_job(seed=seed) for seed in (1, 2, 3, 4)]
    (line,) = lines(*jobs, processes=2)
    assert line.startswith(
        "estimate: training 4 runs takes about 20 min, 2 at a time, and about 1.5 GB of memory a run"
    )
    assert "2 x Some CPU (no GPU)" in line


def test_other_configs_and_other_machines_do_not_count(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(make_job(train__epochs=4), 10.0)
    publish(make_job("no_gate"), 10.0, gpu="Some GPU")
    for job in (make_job(), make_job("no_gate")):
        (line,) = lines(job)
        assert "a matrix product reaches here" in line
    publish(make_job(), 10.0)
    monkeypatch.setattr(estimate, "gpu_driver", lambda: "999.1")
    (line,) = lines(make_job())
    assert "TFLOP/s" in line


def test_counted_operations_are_those_of_the_model(make_job: MakeJob) -> None:
    config = make_job(data__synthetic__train=40, data__synthetic__dev=10, data__synthetic__test=6).run.config
    cost = step_cost.step_cost(config, None)
    model = ARCHITECTURES[config.model.architecture](config.model)
    tweets = load_splits(config.data, None).train
    data = EncodedTweets(tweets, model.tokenizer, model.config)
    order = sorted(range(len(tweets)), key=lambda k: data.lengths_N2[k].sum())
    flops = forward_flops(model, data.batch(order[4:36])) / 32
    assert cost.flops == pytest.approx(flops * (3 * 40 + 16))
    assert cost.steps == 2
    assert cost.image_bytes == 56 * 3 * 64 * 64


def test_a_process_that_counted_can_train_after_it(make_job: MakeJob) -> None:
    config = make_job(data__synthetic__train=40).run.config
    pooling_constants.cache_clear()
    step_cost.step_cost(config, None)
    model = ARCHITECTURES[config.model.architecture](config.model)
    data = EncodedTweets(load_splits(config.data, None).train, model.tokenizer, model.config)
    assert model(data.batch(range(4))).tag_logits_BTC.sum().isfinite().item()


def test_memory_is_weights_gradients_moments_and_activations(make_job: MakeJob) -> None:
    config = make_job(data__synthetic__train=32, train__batch_size=1).run.config
    wide = {**(config.model.text.architecture or {}), "intermediate_size": 20_000}
    config = override(config, {"model.text.architecture": wide}, "test")
    model = ARCHITECTURES[config.model.architecture](config.model)
    parameters = sum(p.numel() for p in model.parameters())
    text = sum(p.numel() for p in model.text_encoder.parameters())
    state = 4 * (4 * parameters + len(model.tasks) * text)  # and what comparing the tasks' gradients takes
    one = step_cost.step_cost(config, None).memory_bytes - state
    assert 0 < one < 4 * parameters  # of one tweet, less than the weights
    four = step_cost.step_cost(override(config, {"train.batch_size": 4}, "test"), None).memory_bytes - state
    assert 3 < four / one < 5


@pytest.mark.parametrize("variant", ["text_only", "image_prefix", "caption_concat", "cmmt", "dtca", "no_paf"])
def test_every_architecture_can_be_counted(make_job: MakeJob, variant: str) -> None:
    (line,) = lines(make_job(variant))
    assert "unknown" not in line


def test_the_time_is_the_operations_by_the_speed(make_job: MakeJob) -> None:
    job = make_job(train__epochs=50, train__threads=2, data__synthetic__train=1000)
    cost = step_cost.step_cost(job.run.config, None)
    (line,) = lines(job)
    seconds = cost.flops * 50 / (2 * 2e9 * estimate.CPU_SHARE)
    assert f"training 1 run takes about {estimate.duration(seconds)}, and about" in line
    assert "assuming 50% of the 4 GFLOP/s" in line


def test_on_a_gpu_the_assumed_speed_is_named(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(estimate, "gpu_driver", lambda: "999.1")
    (line,) = lines(make_job(train__epochs=1000, data__synthetic__train=3200))
    assert "takes about 50 min, and about 0.0 GB of GPU memory a run; assuming that the GPU sustains 40 TFLOP/s" in line
    (tmp_path / "0000:01").mkdir()
    (tmp_path / "0000:01/information").write_text("Model: \t\t NVIDIA H200\nIRQ:   1\n")
    monkeypatch.setattr(estimate, "_NVIDIA_GPUS", tmp_path)
    (line,) = lines(make_job())
    assert "assuming that the NVIDIA H200 sustains" in line


def test_pretrained_encoders_are_counted_from_their_folder(make_job: MakeJob, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    tokenizer = word_level_tokenizer(VOCABULARY)
    AutoModel.from_config(AutoConfig.for_model(**BERT, vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (line,) = lines(make_job(model__text__weights=str(folder), model__text__architecture=None))
    assert "unknown" not in line


def test_weights_that_are_not_at_hand_are_named() -> None:
    runs = plan("paper", only=["full", "text_only"], datasets=["twitter2015"], seeds=1)
    (line,) = lines(*(Job(run, Inputs({}, None, ""), Path("runs")) for run in runs))
    assert line == (
        "estimate: time and memory of 2 runs are unknown until the weights are at hand "
        "(FacebookAI/roberta-base, google/vit-base-patch16-224-in21k)"
    )


def test_an_impossible_config_is_left_to_training_to_report(make_job: MakeJob) -> None:
    _, line = lines(make_job(model__text__architecture={"model_type": "no such"}), make_job())
    assert line == "estimate: time and memory of 1 run are unknown until they are tried"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "1 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (3000, "50 min"),
        (5400, "1.5 h"),
        (86_400, "24 h"),
        (10**6, "12 days"),
    ],
)
def test_durations_are_said_in_a_persons_units(seconds: float, said: str) -> None:
    assert estimate.duration(seconds) == said


def test_run_says_it_before_it_trains(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(*_: object) -> list[object]:
        print("trained", file=sys.stderr)
        return []

    monkeypatch.setattr("repro.commands.training.launch", launch)
    monkeypatch.setattr("repro.commands.report.write", lambda out: None)
    assert main(["run", "--config", str(tiny_config), "--only", "text_only", "--seeds", "2"]) == 0
    first, said, last = capsys.readouterr().err.splitlines()
    assert first == "synthetic: 2 runs, 0 already done"
    assert said.startswith("estimate: training 2 runs takes about ")
    assert last == "trained"


def test_the_speed_of_this_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    first = step_cost.cpu_flops(1, 0.05)
    assert 1e8 < first < 1e13
    assert step_cost.cpu_flops(1, 0.05) == first
