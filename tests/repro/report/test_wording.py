"""Numbers as text."""

from __future__ import annotations

from repro.report.wording import mean_and_sd, p_value, signed


def test_numbers_as_text():
    assert mean_and_sd([0.5, 0.6]) == "55.0 ± 7.1"
    assert mean_and_sd([0.5]) == "50.0"
    assert (signed(0.012), signed(-0.0004), signed(0.0004)) == ("+1.2", "0.0", "0.0")
    assert (p_value(None), p_value(0.0004), p_value(0.05)) == ("-", "< 0.001", "0.050")
