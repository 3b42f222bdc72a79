"""What a record keeps of numbers: six digits of a real one, every count, and long series in little room."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamp.metrics import scores_from_counts
from repro.records.part import Part, Real, SparseSeries, TweetCounts
from repro.records.run import SpanCounts


class Kept(Part):
    value: Real
    course: SparseSeries
    tweets: TweetCounts


REALS = st.floats(-1e6, 1e6)


@given(REALS, st.lists(st.none() | REALS, max_size=40), st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=40))
def test_reals_keep_six_digits_and_counts_are_exact(
    value: float, course: list[float | None], tweets: list[tuple[int, int, int]]
) -> None:
    kept = Kept(value=value, course=course, tweets=tweets)
    back = Kept.model_validate_json(kept.model_dump_json())
    assert back.value == pytest.approx(value, rel=1e-5)
    assert [one is None for one in back.course] == [one is None for one in course]
    assert [one for one in back.course if one is not None] == pytest.approx(
        [one for one in course if one is not None], rel=1e-5
    )
    assert back.tweets == tweets
    assert Kept.model_validate_json(back.model_dump_json()) == back  # what was rounded once stays as it is


def test_a_series_takes_little_room() -> None:
    tweets = [(k % 3, k % 3, k % 4) for k in range(1000)]
    kept = Kept(value=0.0, course=[], tweets=tweets).model_dump(mode="json")
    assert len(kept["tweets"]) < len(json.dumps(tweets)) / 20


@pytest.mark.parametrize("counts", [(0, 0, 0), (0, 3, 0), (2, 3, 5)])
def test_scores_follow_from_counts_as_metrics_has_them(counts: tuple[int, int, int]) -> None:
    kept, scores = SpanCounts.model_validate(list(counts)), scores_from_counts([counts])
    assert (kept.precision, kept.recall, kept.f1) == (scores.precision, scores.recall, scores.f1)
    assert kept.model_dump(mode="json") == list(counts)
