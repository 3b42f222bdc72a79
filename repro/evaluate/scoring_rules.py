"""How much F1 moves by the rules of scoring alone: one system's predictions under the rules of published systems.

Each rule is as the system's public code applies it; tests/clamp/test_metrics.py holds the smallest case of each
difference. What a tagger cannot produce (a malformed span, one span with two polarities: VLP-MABSA's rules are about
those) makes no row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from clamp.data import Tweet
from clamp.evaluate import gold_spans
from clamp.metrics import Scores, polarity_scores, scores_from_counts, span_scores
from clamp.tagging import Span, decode_tags


def joint_f1_by_rule(
    tags: Sequence[Sequence[str]], viterbi: Sequence[Sequence[Span]], tweets: Sequence[Tweet]
) -> dict[str, float]:
    """Joint F1 in 0..1 under every one of SCORING_RULES.

    tags: each word's most probable tag, as many as truncation left; viterbi: the spans of the best well-formed path.
    """
    gold = gold_spans(list(tweets))
    strict = [decode_tags(row) for row in tags]
    kept = [[span for span in spans if span[1] <= len(row)] for spans, row in zip(gold, tags, strict=True)]
    return {
        "strict": span_scores(strict, gold).f1,
        "orphans_open": span_scores([decode_tags(_orphans_opened(row)) for row in tags], gold).f1,
        "viterbi": span_scores(viterbi, gold).f1,
        "lower_cased_text": _text_scores(strict, gold, tweets).f1,
        "kept_words_only": span_scores(strict, kept).f1,
    }


def _orphans_opened(tags: Sequence[str]) -> list[str]:
    """Every I- that continues nothing of its polarity as a B-."""
    return [
        f"B{tag[1:]}" if tag[0] == "I" and (i == 0 or tags[i - 1][1:] != tag[1:]) else tag for i, tag in enumerate(tags)
    ]


def _text_scores(
    predicted: Sequence[Sequence[Span]], gold: Sequence[Sequence[Span]], tweets: Sequence[Tweet]
) -> Scores:
    """A prediction is right if its text and polarity are among the gold ones; two of one text count twice."""
    counts = []
    for found, spans, tweet in zip(predicted, gold, tweets, strict=True):
        texts, gold_texts = (
            Counter((" ".join(tweet.words[start:end]).lower(), polarity) for start, end, polarity in some)
            for some in (found, spans)
        )
        right = sum(count for text, count in texts.items() if text in gold_texts)
        counts.append((right, texts.total(), gold_texts.total()))
    return scores_from_counts(counts)


def polarity_f1_by_rule(probabilities_N3: ArrayLike, gold_N: ArrayLike) -> dict[str, float]:
    """MASC F1 in 0..1 of gold spans: sklearn's macro-F1, the harmonic mean of macro-P and macro-R, and micro-F1."""
    ours = polarity_scores(probabilities_N3, gold_N)
    gold, predicted = np.asarray(gold_N), np.asarray(probabilities_N3).argmax(axis=-1)
    right, found, there = (
        np.array([rows.sum() for rows in of_class])
        for of_class in zip(
            *(((predicted == c) & (gold == c), predicted == c, gold == c) for c in np.union1d(gold, predicted)),
            strict=True,
        )
    )
    p, r = (right / np.maximum(found, 1)).mean(), (right / np.maximum(there, 1)).mean()
    harmonic = 2 * p * r / (p + r) if p + r else 0.0
    return {"macro": ours.macro_f1, "harmonic": float(harmonic), "micro": ours.accuracy}
