"""Systems are compared over shared seeds on the same tweets, adjusted together."""

from __future__ import annotations

import pytest
from made_up import RESAMPLES, record, runs_of, suite

from repro.evidence.cells import blocks
from repro.evidence.comparisons import compare


def test_comparisons_use_shared_seeds_on_shared_data_only():
    full = [record("full", seed, f1=0.9) for seed in (0, 1, 2, 3)]
    other = [record("text_only", seed, f1=0.7) for seed in (1, 2, 3, 4)]
    other[2]["provenance"]["data"]["synthetic/train"] = "cd" * 32
    block = blocks(runs_of([*full, *other]))["synthetic", "synthetic"]
    (comparison,) = compare([(block["full"], block["text_only"])], RESAMPLES)
    assert comparison.seeds == 2  # seeds 1 and 2; seed 3 saw other data
    assert comparison.standing == "undecided"
    f1 = {(r["variant"], r["seed"]): r["result"]["metrics"]["test"]["joint"]["f1"] for r in [*full, *other]}
    expected = sum(f1["full", s] - f1["text_only", s] for s in (1, 2)) / 2
    assert comparison.difference == pytest.approx(expected)


def test_systems_that_see_different_views_of_the_images_are_compared_on_their_tweets():
    full, text_only = (
        [record(variant, seed, profile="offline", dataset="twitter2015", f1=f1) for seed in range(3)]
        for variant, f1 in (("full", 0.58), ("text_only", 0.4))
    )
    assert full[0]["provenance"]["data"].keys() - text_only[0]["provenance"]["data"].keys()
    block = blocks(runs_of([*full, *text_only]))["offline", "twitter2015"]
    (comparison,) = compare([(block["full"], block["text_only"])], RESAMPLES)
    assert (comparison.seeds, comparison.standing) == (3, "ahead")


def test_comparisons_made_together_are_adjusted_together():
    block = blocks(runs_of(suite()))["synthetic", "synthetic"]
    pairs = [(block["full"], block[name]) for name in ("no_paf", "no_mcl", "text_only")]
    alone = [compare([pair], RESAMPLES)[0] for pair in pairs]
    together = compare(pairs, RESAMPLES)
    assert sum(c.p_seeds for c in together if c.p_seeds) > sum(c.p_seeds for c in alone if c.p_seeds)
    assert max(c.p_seeds for c in together if c.p_seeds) >= max(c.p_seeds for c in alone if c.p_seeds)
    assert sum(c.p_tweets for c in together if c.p_tweets) > sum(c.p_tweets for c in alone if c.p_tweets)
    assert [c.p_randomisation for c in together] == [c.p_randomisation for c in alone]
