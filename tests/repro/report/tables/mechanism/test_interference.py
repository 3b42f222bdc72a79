"""The answer on gradient interference follows the cosines, in both directions."""

from __future__ import annotations

from drawing import drawn
from made_up import evidence_of
from made_up_mechanisms import Records, pulled, row_of, runs

from repro.report.table import Table
from repro.report.tables.mechanism.interference import interference


def said_of(records: Records) -> str:
    evidence = evidence_of(records)
    return interference(evidence).findings[0]


def test_the_answer_on_interference_follows_the_cosines():
    evidence = evidence_of(pulled({"full": 2, "no_ama": 15, "fixed_weights": 6}))
    table = interference(evidence)
    row = row_of(table, block="synthetic", system="CLAMP")
    # two, three and one of the thirty that were sampled
    assert (row["negative cosines"], row["negative: tagging~aspect"]) == ("6.7 ± 3.3", "10.0 ± 5.0")
    assert row["negative: tagging~global"] == "0.0 ± 0.0"
    # 1/2 to 1/12, the first epoch's 1 left out
    assert row["sd of tagging loss"] == "0.191 ± 0.000"
    assert [row[f"sd of {task} loss"] for task in ("aspect", "global", "local")] == [
        "0.096 ± 0.000",
        "0.250 ± 0.000",
        "0.125 ± 0.000",
    ]
    assert row["relative sd of gradient norm"] == "0.096 ± 0.000"  # half the loss's, for the norm's mean is 2
    assert (
        "From the second epoch on the standard deviations within an epoch are: of the tagging loss 0.191 (AMA), "
        "0.191 (equal weights), 0.191 (fixed weights); of the aspect loss 0.096 (AMA)" in table.findings[0]
    )
    assert "AMA's change within an epoch, and their trend is in it too" in table.footer[0]
    assert "reduce gradient interference? Yes. Negative are 6.7 ± 3.3 % with AMA" in table.findings[0]
    assert "Equal weights minus AMA: +43.3 (95 % interval" in table.findings[0]
    assert "Fixed weights minus AMA: +13.3" in table.findings[0]
    assert "interference? No, the other way round." in said_of(pulled({"full": 15, "no_ama": 2}))
    assert "interference? No difference that matters." in said_of(pulled({"full": 5, "no_ama": 5}))
    assert "interference? Undecided, of 2 seeds." in said_of(pulled({"full": 2, "no_ama": 15}, seeds=2))


def test_the_order_of_a_records_pairs_moves_nothing():
    """It came from a set, so that another process has another one."""

    def table(records: Records, pairs: list[str]) -> Table:
        for r in records:
            course = {pair: [0.5 - len(pair) % 3, -0.2] for pair in pairs}
            r["result"]["interference"] = {"step": [1, 2], "cosine": course}
        evidence = evidence_of(records)
        return interference(evidence)

    pairs = ["tagging~aspect", "tagging~global", "tagging~local", "aspect~global", "aspect~local", "global~local"]
    expected = table(runs("full", "no_ama"), pairs)
    assert [c for c in expected.frame.columns if c.startswith("negative: ")] == [f"negative: {p}" for p in pairs]
    shuffled = table(runs("full", "no_ama"), [pairs[k] for k in (4, 1, 5, 0, 3, 2)])
    assert shuffled.frame.equals(expected.frame)
    turned = runs("full", "no_ama")
    table(turned, pairs)
    for r in turned[::2]:
        kept = r["result"]["interference"]["cosine"]
        r["result"]["interference"]["cosine"] = {"~".join(p.split("~")[::-1]): kept[p] for p in reversed(kept)}
    evidence = evidence_of(turned)
    assert interference(evidence).frame.equals(expected.frame)


def test_runs_without_cosines_stand_beside_those_with_them():
    records = pulled({"full": 2, "no_ama": 15})
    del records[0]["result"]["interference"]
    figure = drawn("interference", evidence_of(records))
    shown = row_of(interference(evidence_of(records)), block="synthetic", system="CLAMP")
    assert (shown["n"], shown["negative: tagging~global"]) == ("3", "0.0 ± 0.0 (2 seeds)")
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    assert list(lines["AMA"].get_xdata()) == list(lines["equal weights"].get_xdata()) == list(range(1, 21))


def test_runs_that_kept_no_cosines_claim_nothing():
    records = runs("full", "no_ama")
    for r in records:
        del r["result"]["interference"]
        for epoch in r["result"]["curve"]:
            del epoch["loss_sd"], epoch["gradient_norm"]
    assert said_of(records).endswith("interference? Not recorded.")
    assert said_of([]).endswith("interference? Not run.")
    assert (
        row_of(interference(evidence_of(records)), block="synthetic", system="CLAMP")["mean cosine"] == "not recorded"
    )
