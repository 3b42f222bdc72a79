"""The command line: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.__main__ import main
from repro.run import source_hash

FAKE = "fake_training:train"
Captured = pytest.CaptureFixture[str]


def run(*arguments: str, train: str = FAKE) -> int:
    return main(["run", "--processes", "2", *arguments], train=train)


@pytest.fixture
def grid(tiny_config: Path) -> tuple[str, ...]:
    return ("--config", str(tiny_config), "--only", "full", "no_gate", "--seeds", "1")


@pytest.fixture(autouse=True)
def _no_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a model to be built; test_estimate.py looks."""
    monkeypatch.setattr("repro.run.estimate.lines", lambda *_: iter(()))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second, and most tests do not look."""
    monkeypatch.setattr("repro.report.write.FIGURES", ())


def tables() -> dict[str, bytes]:
    files = (path for path in Path("paper_tables").iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def test_run_trains_publishes_and_says_what_to_read_first(grid: tuple[str, ...], capsys: Captured) -> None:
    assert run(*grid) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith("read paper_tables/README.md first")
    assert Path("paper_tables/README.md").is_file()
    assert "2 runs, 0 already done" in err
    published = sorted(str(path) for path in Path("paper_tables/results").rglob("*.json"))
    assert published == [f"paper_tables/results/synthetic/synthetic/{variant}.json" for variant in ("full", "no_gate")]
    (record,) = json.loads(Path(published[0]).read_text())
    assert record["provenance"]["argv"][:4] == ["python", "-m", "repro", "run"]
    assert str(Path.cwd()) not in Path(published[0]).read_text()


def test_a_second_call_trains_nothing_and_report_gives_the_same_bytes(grid: tuple[str, ...], capsys: Captured) -> None:
    assert run(*grid) == 0
    before = tables()
    assert run(*grid, train="fake_training:train_for_ever") == 0
    assert "2 runs, 2 already done" in capsys.readouterr().err
    assert tables() == before
    for name in before:
        (Path("paper_tables") / name).unlink()
    assert main(["report"]) == 0
    assert tables() == before


@pytest.mark.usefixtures("no_figures")
def test_published_records_never_count_as_finished_runs(grid: tuple[str, ...]) -> None:
    assert run(*grid, "--runs", "elsewhere") == 0
    assert run(*grid) == 0
    assert len(list(Path("runs").rglob("course.txt"))) == 2


@pytest.mark.usefixtures("no_figures")
def test_finished_runs_are_published_wherever_tables_are_wanted(grid: tuple[str, ...]) -> None:
    assert run(*grid) == 0
    assert run(*grid, "--out", "other", train="fake_training:train_for_ever") == 0
    assert len(list(Path("other/results").rglob("*.json"))) == 2


def test_missing_trains_what_the_records_lack_and_nothing_else(
    tiny_config: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.commands.report.write", lambda out: None)  # no table knows what stands for an evaluation

    def run_one(*more: str) -> str:
        command = ("run", "--config", str(tiny_config), "--only", "full", *more)
        training = {"train": "fake_training:train_a_model", "evaluate": "fake_training:evaluate"}
        assert main([*command, "--processes", "2"], **training) == 0
        return capsys.readouterr().err

    def trained() -> int:
        return len(list(Path("runs").rglob("weights.bin")))

    run_one("--seeds", "2", "--runs", "elsewhere")
    assert "2 of them are done in the records" in run_one("--seeds", "2", "--missing")
    assert trained() == 0
    cell = Path("paper_tables/results/synthetic/synthetic/full.json")
    whole = json.loads(cell.read_text())
    for field in ("key", "evaluation_hash"):
        records = json.loads(json.dumps(whole))
        next(one for one in records if field in one and ("provenance" in one) == (field == "key"))[field] = "0" * 16
        cell.write_text(json.dumps(records))
        shutil.rmtree("runs", ignore_errors=True)
        assert "1 of them are done in the records" in run_one("--seeds", "3", "--missing")
        assert trained() == 2  # the one that is lacking, and a new seed
        assert len(json.loads(cell.read_text())) == len(whole) + 2


def made_by_other_sources(result: Path) -> None:
    record = json.loads(result.read_text())
    record["provenance"]["source_hash"], record["key"] = "other", "0" * 16
    result.write_text(json.dumps(record))
    result.parent.rename(result.parent.with_name("seed0-" + "0" * 16))


@pytest.mark.usefixtures("no_figures")
def test_refresh_trains_again_what_other_sources_made(grid: tuple[str, ...], capsys: Captured) -> None:
    assert run(*grid) == 0
    for result in list(Path("runs").rglob("result.json")):
        made_by_other_sources(result)
    assert run(*grid) == 0
    assert "--refresh" in capsys.readouterr().err
    assert len(list(Path("runs").rglob("course.txt"))) == 2
    assert run(*grid, "--refresh") == 0
    assert len(list(Path("runs").rglob("course.txt"))) == 4
    cell = Path("paper_tables/results/synthetic/synthetic/full.json")
    assert json.loads(cell.read_text())[0]["provenance"]["source_hash"] == source_hash.source_hash()


@pytest.mark.usefixtures("no_figures")
def test_a_failed_run_is_named_and_the_exit_code_is_1(tiny_config: Path, capsys: Captured) -> None:
    command = ("--config", str(tiny_config), "--only", "full", "no_gate", "--seeds", "1")
    assert run(*command, train="fake_training:train_but_some_fail") == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("error: 1 of 2 runs failed: synthetic no_gate seed 0; why: runs/")
    assert "paper_tables/README.md" in out
    assert main(["status", *command]) == 0
    rows = {tuple(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert {("synthetic", "full", "0", "done"), ("synthetic", "no_gate", "0", "failed")} <= rows
    assert run(*command) == 0


@pytest.mark.usefixtures("no_figures")
def test_a_corrupt_result_is_reported_and_run_again(tiny_config: Path, capsys: Captured) -> None:
    command = ("--config", str(tiny_config), "--only", "full", "--seeds", "1")
    assert run(*command) == 0
    (result,) = Path("runs").rglob("result.json")
    text = result.read_text()
    result.write_text(text[:100])
    assert run(*command) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert str(result) in line
    assert "trained again" in line
    assert json.loads(result.read_text())["result"] == json.loads(text)["result"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--profile", "papre"], "papre"),
        (["run", "--only", "no_paff"], "no_paff"),
        (["run", "--dataset", "twitter2016"], "twitter2016"),
        (["status", "--profile", "offline"], "--data"),
        (["run", "--profile", "paper", "--only", "text_only", "--data", "empty"], "empty"),
        (["run", "--config", "unknown.json"], "unknown.json: train.epoch"),
        (["run", "--config", "weights.json"], "no_tensors"),
        (["run", "--seeds", "0"], "--seeds"),
        (["run", "--sedes", "3"], "--sedes"),
        (["rnu"], "rnu"),
        (["report", "--out", "broken"], "broken/results/a/b/c.json"),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(arguments: list[str], named: str, capsys: Captured) -> None:
    Path("empty").mkdir()
    Path("no_tensors").mkdir()
    Path("broken/results/a/b").mkdir(parents=True)
    Path("broken/results/a/b/c.json").write_text("{")
    Path("unknown.json").write_text('{"train": {"epoch": 3}}')
    Path("weights.json").write_text('{"model.text.weights": "no_tensors"}')
    try:
        code = main(arguments, train=FAKE)
    except SystemExit as stopped:  # argparse
        code = int(stopped.code or 0)
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert named in err
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_broken_record_of_the_data_is_found_before_anything_is_trained(
    write_twitter: Callable[[Path], None], tiny_config: Path, capsys: Captured
) -> None:
    tiny_config.write_text('{"data.visual": "none", "train.epochs": 1, "model.text.weights": null}')
    write_twitter(Path("tweets"))
    command = ("--profile", "paper", "--dataset", "twitter2015", "--data", "tweets", "--config", str(tiny_config))
    selection = ("--only", "text_only", "--seeds", "1")
    train = Path("tweets/twitter2015/train.json")
    whole = train.read_text()
    train.write_text(whole[:-5])
    assert run(*command, *selection) == 2
    assert "train.json" in capsys.readouterr().err
    assert not Path("runs").exists()
    train.write_text(whole)
    assert run(*command, *selection) == 0
    Path("tweets").rename("moved")  # where the data lie is not what they are
    moved = [argument.replace("tweets", "moved") for argument in command]
    assert run(*moved, *selection) == 0
    assert "1 runs, 1 already done" in capsys.readouterr().err
    (record,) = Path("paper_tables/results").rglob("*.json")
    assert "DIR" in json.loads(record.read_text())[0]["provenance"]["argv"]


def test_a_full_disk_is_one_line_and_exit_code_2(grid: tuple[str, ...], capsys: Captured) -> None:
    assert run(*grid, train="fake_training:train_onto_a_full_disk") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("command", [[], ["run"], ["status"], ["report"], ["efficiency"]])
def test_help_teaches(command: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "python -m repro run --profile offline --data DIR" in out if not command else "default" in out


def test_status_needs_no_torch(tiny_config: Path) -> None:
    arguments = ["status", "--seeds", "1", "--only", "main", "--config", str(tiny_config)]
    code = f"import sys; from repro.__main__ import main; main({arguments}); sys.exit('torch' in sys.modules)"
    root = source_hash.package_folder("repro").parent
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "7 missing" in done.stdout
