"""A checkpoint is evaluated as it predicts, once, and again only when evaluation itself has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from finished import write_evaluation

from clamp.data import load_splits
from clamp.evaluate import gold_spans
from clamp.training.train import train
from repro.__main__ import main
from repro.evaluate.conditions import conditions
from repro.evaluate.evaluation import evaluate
from repro.plan.profiles import Inputs, Run
from repro.records.evaluation import SCORING_RULES
from repro.records.files import read_evaluation
from repro.run import source_hash, store
from repro.run.local_engine import EVALUATE
from repro.run.other_data_set import OTHER_DATA_SET, is_there_another
from repro.run.published import published
from repro.run.store import Job

GRID = ["run", "--processes", "1", "--only", "text_only", "--seeds", "1"]


@pytest.mark.parametrize("visual", ["image", "none"])
def test_evaluation_scores_the_checkpoint_under_every_condition(
    make_job: Callable[..., Job], tmp_path: Path, visual: str
) -> None:
    variant = "full" if visual == "image" else "text_only"
    config = make_job(variant, train__epochs=1, data__visual=visual).run.config
    splits = load_splits(config.data, None)
    result = train(config, splits, tmp_path / "run")
    found = evaluate(config, tmp_path / "run" / "model", splits.test, None, tmp_path / "features")
    assert json.loads(json.dumps(found)) == found
    assert found["clean"]["joint"] == result["metrics"]["test"]["joint"]
    assert found["clean"]["mate"] == result["metrics"]["test"]["mate"]
    assert found["clean"]["masc_accuracy"] == result["metrics"]["test"]["masc"]["accuracy"]
    assert found["conditions"].keys() == conditions(config, None).keys()
    gold = sum(map(len, gold_spans(splits.test)))
    robust = [name for name, c in conditions(config, None).items() if c.group == "robustness"]
    assert {found["conditions"][name]["joint"]["gold"] for name in robust} == {gold}
    assert found["rules"]["joint"].keys() == SCORING_RULES.keys()
    # this profile decodes by Viterbi, so that rule is the record's own
    assert found["rules"]["joint"]["viterbi"] == result["metrics"]["test"]["joint"]["f1"]
    assert found["rules"]["masc"]["macro"] == result["metrics"]["test"]["masc"]["macro_f1"]
    assert sum(found["mechanism"]["calibration"]["count"]) == gold
    assert found["slices"] == {}  # of real tweets alone
    if visual == "image":
        changed = found["conditions"]["other_image"]
        kept = np.array(changed["per_tweet"])
        assert kept.shape == (len(splits.test), 3)
        assert kept.sum(axis=0).tolist() == [changed["joint"][name] for name in ("tp", "predicted", "gold")]
    assert all("per_tweet" not in scores for name, scores in found["conditions"].items() if name != "other_image")
    seen = {name for name in ("alignment", "counterfactuals", "attention") if found["mechanism"][name] is not None}
    assert seen == ({"alignment", "counterfactuals", "attention"} if variant == "full" else set())


def test_a_run_is_evaluated_with_its_training_and_again_only_when_evaluation_changed(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_config.write_text(tiny_config.read_text().replace('"epochs": 3', '"epochs": 1'))
    grid = [*GRID, "--config", str(tiny_config), "--out", "out"]
    assert main(grid) == 0
    (file,) = tmp_path.glob("runs/*/text_only/*/evaluation.json")
    record = json.loads(file.read_text())
    assert record["evaluation_hash"] == source_hash.source_hash(EVALUATE.partition(":")[0])
    assert [e.evaluation for e in published(tmp_path / "out" / "results")[1]] == [read_evaluation(file).evaluation]
    trained = file.with_name("result.json").read_bytes()
    file.write_text(file.read_text().replace(record["evaluation_hash"], "0" * 16))
    assert main(grid) == 0  # finished, but evaluated by other code
    assert json.loads(file.read_text()) == record
    assert file.with_name("result.json").read_bytes() == trained
    stamp = file.stat().st_mtime_ns
    assert main(grid) == 0
    assert file.stat().st_mtime_ns == stamp


def test_a_run_is_evaluated_again_when_the_other_data_set_has_come(
    make_run: Callable[..., Run], tmp_path: Path, write_twitter: Callable[[Path], None]
) -> None:
    run = make_run("text_only", data__name="twitter2015", data__visual="none")
    job = Job(run, Inputs({}, None, ""), tmp_path / "runs")
    job.model.mkdir(parents=True)
    conditions: tuple[str, ...] = ()

    def needed() -> bool:
        is_there_another.cache_clear()
        write_evaluation(job, conditions=conditions)
        return store.needs_evaluation(job, "now", tmp_path)

    write_twitter(tmp_path)
    assert not needed()
    (tmp_path / "twitter2017").mkdir()
    assert not needed()  # its tweets have not come
    for file in (tmp_path / "twitter2015").iterdir():
        shutil.copy(file, tmp_path / "twitter2017")
    assert needed()
    conditions = (OTHER_DATA_SET,)
    assert not needed()
