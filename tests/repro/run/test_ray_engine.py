"""The grid on a real Ray cluster: two nodes on this machine, each with a cache folder of its own; one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_ray import Nodes, a_cluster, parent_of, wait_for

from clamp.system.files import is_locked
from repro.__main__ import main
from repro.plan.profiles import Inputs, Run
from repro.records.files import StoreError, read_evaluation
from repro.run import ray_engine, source_hash, store
from repro.run.local_engine import Setting, launch
from repro.run.provenance import Invocation
from repro.run.ray_engine import Cluster
from repro.run.store import Job

MakeJob = Callable[..., Job]
Drive = Callable[..., "subprocess.Popen[str]"]


def setting(function: str) -> Setting:
    return Setting(Invocation(("python",), None, None), None, f"fake_training:{function}", "fake_training:evaluate")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    yield from a_cluster(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def nodes(head: Nodes) -> Nodes:
    """The cluster, of one node, and nothing in its log."""
    head.log.unlink(missing_ok=True)
    return head


def on(nodes: Nodes, gpus_per_run: float = 0.0) -> Cluster:
    return Cluster(nodes.address, gpus_per_run)


def comparable(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text())
    values.get("provenance", {}).pop("started", None)
    return values


def ended(errors: str) -> list[str]:
    """The runs of the lines that say how one ended."""
    return [line.split("] ")[1].split(":")[0] for line in errors.splitlines() if line.startswith("[")]


@pytest.mark.slow
def test_a_node_dies_in_mid_grid_and_every_run_ends_once(
    nodes: Nodes, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [make_job(seed=seed) for seed in range(5)]
    mortal = nodes.add()

    def kill_in_mid_run() -> None:
        wait_for(lambda: {name for name, *_ in nodes.starts()} == {"node0", f"node{nodes.started - 1}"})
        nodes.kill(mortal)

    killer = threading.Thread(target=kill_in_mid_run)
    killer.start()
    failures = ray_engine.launch(jobs, len(jobs), setting("train_a_model_on_a_node"), on(nodes))
    killer.join()
    errors = capsys.readouterr().err
    assert failures == []
    assert "its node died; it starts again" in errors
    assert sorted(ended(errors)) == sorted(job.run.name for job in jobs)
    starts = Counter(seed for _, seed, *_ in nodes.starts())
    assert sorted(starts.values()) == [1, 1, 1, 1, 2]
    assert nodes.left_over() == []

    monkeypatch.setenv("NODE", "local")
    monkeypatch.setenv("NODE_LOG", str(tmp_path / "log"))
    for job in jobs:
        here = Job(job.run, job.inputs, tmp_path / "local")
        assert launch([here], 1, setting("train_a_model_on_a_node")) == []
        assert comparable(job.result) == comparable(here.result)
        assert comparable(job.evaluation) == comparable(here.evaluation)
        assert (job.model / "weights.bin").read_bytes() == (here.model / "weights.bin").read_bytes()
        assert not job.error.exists()


@pytest.mark.slow
def test_a_run_whose_worker_dies_goes_on_where_it_was(nodes: Nodes, make_job: MakeJob) -> None:
    job = make_job(train__epochs=7)
    job.folder.mkdir(parents=True)
    (job.folder / "checkpoint.json").write_text("1")  # what the store has stays behind what the node has

    def further() -> bool:
        return any(path.name == "checkpoint.json" and path.read_text() in "234" for path in nodes.left_over())

    def kill_worker() -> None:
        wait_for(further)
        (_, _, pid, _) = nodes.starts()[0]
        worker = parent_of(parent_of(pid))  # above the run is the fork server, above that Ray's process
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: parent_of(pid) == 0)

    killer = threading.Thread(target=kill_worker)
    killer.start()
    assert ray_engine.launch([job], 1, setting("train_a_model_on_a_node"), on(nodes)) == []
    killer.join()
    course = (job.folder / "course.txt").read_text()
    assert course.count("from") == 2
    assert course.startswith("from 1: 2")
    assert course.count("from 1:") == 1
    assert course.endswith(" 7")


@pytest.mark.slow
def test_a_run_that_fails_by_itself_does_so_once_and_as_locally(
    nodes: Nodes, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    raises, killed, fine = (make_job(variant) for variant in ("no_gate", "no_focus", "full"))
    failures = ray_engine.launch([raises, killed, fine], 3, setting("train_but_some_fail"), on(nodes))
    reasons = {failure.job.run.variant: failure.reason for failure in failures}
    assert reasons["no_gate"] == "ValueError: loss is NaN at step 7"
    assert "SIGKILL" in reasons["no_focus"]
    assert len(failures) == 2
    assert "Traceback" in raises.error.read_text()
    assert "SIGKILL" in killed.error.read_text()
    assert [store.state(job)[0] for job in (raises, killed, fine)] == ["failed", "failed", "done"]
    errors = capsys.readouterr().err
    assert sorted(ended(errors)) == sorted(job.run.name for job in (raises, killed, fine))
    assert "starts again" not in errors
    assert ray_engine.launch([raises], 1, setting("train"), on(nodes)) == []  # mended: the old error goes
    assert not raises.error.exists()
    assert nodes.left_over() == []


@pytest.mark.slow
def test_a_run_begun_here_goes_on_there(nodes: Nodes, make_job: MakeJob) -> None:
    job = make_job()
    job.folder.mkdir(parents=True)
    (job.folder / "checkpoint.json").write_text("2")
    assert ray_engine.launch([job], 1, setting("train"), on(nodes)) == []
    assert (job.folder / "course.txt").read_text() == "from 2: 3"


@pytest.mark.slow
def test_a_finished_run_is_evaluated_and_never_written_again(nodes: Nodes, make_job: MakeJob) -> None:
    job = make_job(seed=7)
    assert ray_engine.launch([job], 1, setting("train_a_model_on_a_node"), on(nodes)) == []
    job.evaluation.unlink()
    (job.model / "weights.bin").write_bytes(bytes([9]))  # tells whether the model that is here was evaluated
    before = job.result.stat().st_mtime_ns, job.result.read_bytes()
    assert ray_engine.launch([job], 1, setting("train_a_model_on_a_node"), on(nodes)) == []
    assert read_evaluation(job.evaluation).evaluation.clean.joint.gold == 9
    assert (job.result.stat().st_mtime_ns, job.result.read_bytes()) == before
    assert len(nodes.starts()) == 1


@pytest.mark.slow
def test_gpus_are_seen_by_runs_that_asked_for_them(nodes: Nodes, make_job: MakeJob) -> None:
    assert ray_engine.launch([make_job(seed=0)], 1, setting("train_a_model_on_a_node"), on(nodes, 0.5)) == []
    assert ray_engine.launch([make_job(seed=1)], 1, setting("train_a_model_on_a_node"), on(nodes)) == []
    assert [gpus for *_, gpus in nodes.starts()] == ["0", ""]


@pytest.mark.slow
def test_a_node_with_other_data_is_found_out(
    nodes: Nodes, make_run: Callable[..., Run], write_twitter: Callable[[Path], None], tmp_path: Path
) -> None:
    write_twitter(tmp_path)
    other_bytes = Inputs({"twitter2015/train.json": "0" * 64}, None, source_hash.source_hash())
    job = Job(make_run(data__name="twitter2015", data__visual="none"), other_bytes, tmp_path / "runs")
    described = Setting(Invocation(("python",), None, None), tmp_path, "fake_training:train")
    (failure,) = ray_engine.launch([job], 1, described, on(nodes))
    assert "not the same twitter2015" in failure.reason
    assert failure.reason in job.error.read_text()


@pytest.mark.slow
def test_a_store_that_cannot_be_written_stops_everything(
    nodes: Nodes, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: str | bytes) -> None:
        raise StoreError(f"cannot write {path}")

    jobs = [make_job(seed=seed) for seed in range(3)]
    monkeypatch.setattr(store, "write_atomically", fail)
    with pytest.raises(StoreError, match="cannot write"):
        ray_engine.launch(jobs, 3, setting("train_a_model_on_a_node"), on(nodes))
    wait_for(lambda: not any(parent_of(pid) for *_, pid, _ in nodes.starts()))
    assert not any(is_locked(job.folder) for job in jobs)


@pytest.mark.slow
def test_ctrl_c_ends_the_runs(nodes: Nodes, drive: Drive, tiny_config: Path) -> None:
    grid = ("run", "--config", str(tiny_config), "--only", "full", "--seeds", "2")
    command = drive("fake_training:train_for_ever_on_a_node", *grid, "--engine", "ray", "--address", nodes.address)
    wait_for(lambda: len(nodes.starts()) == 1)
    (_, _, pid, _) = nodes.starts()[0]
    assert parent_of(pid)
    os.killpg(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "same command again" in errors
    assert "Traceback" not in errors
    wait_for(lambda: parent_of(pid) == 0)
    assert list(Path("runs").rglob("result.json")) == []


@pytest.mark.slow
def test_two_commands_never_train_one_run_twice(nodes: Nodes, drive: Drive, tiny_config: Path) -> None:
    grid = ("run", "--config", str(tiny_config), "--only", "full", "--seeds", "2")
    there = ("--engine", "ray", "--address", nodes.address)
    commands = [drive("fake_training:train_on_a_node", *grid, *there) for _ in range(2)]
    assert [command.wait(100) for command in commands] == [0, 0]
    assert sorted(seed for _, seed, *_ in nodes.starts()) == [0, 1]
    assert len(list(Path("runs").rglob("result.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--address", "auto"], "--address and --gpus-per-run go with --engine ray"),
        (["--gpus-per-run", "0.5"], "--address and --gpus-per-run go with --engine ray"),
        (["--engine", "ray", "--gpus-per-run", "0"], "'0' is not a number above 0 and at most 1"),
        (["--engine", "ray", "--gpus-per-run", "many"], "'many' is not a number above 0 and at most 1"),
        (["--engine", "ray", "--gpus-per-run", "nan"], "'nan' is not a number above 0 and at most 1"),
        (["--engine", "cloud"], "invalid choice: 'cloud'"),
    ],
)
def test_options_that_say_nothing_usable(
    arguments: list[str], message: str, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["run", "--config", str(tiny_config), *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_without_ray_one_line_says_what_to_do(
    tiny_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "--config", str(tiny_config), "--engine", "ray"]) == 2
    assert 'pip install "clamp-repro[ray]"' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:99999999"])
def test_where_no_cluster_answers_one_line_says_so(
    address: str, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason='needs Ray: pip install "clamp-repro[ray]"')
    assert main(["run", "--config", str(tiny_config), "--engine", "ray", "--address", address]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: --address {address}: no Ray cluster answers")
    assert "ray start" in line


@pytest.mark.parametrize("gpu", [True, False])
def test_the_key_of_a_clusters_run_is_that_of_the_node(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert source_hash.source_hash(gpu=gpu) == source_hash.hash_of(source_hash.TRAINING, triton=gpu)
