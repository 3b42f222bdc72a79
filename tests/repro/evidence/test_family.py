"""The family of tests is read whole or refused in one line, and says what the ledger needs of every claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.evidence.family import FILE, family, read_family
from repro.plan.variants import GROUPS, VARIANTS
from repro.records.files import StoreError

SOUND = """[[claim]]
id = "paf"
group = "Parts"
sentence = "it helps"
short = "helps"
ours = "full"
other = "no_paf"
metric = "f1"
data = ["synthetic"]
direction = "higher"
smallest = 0.01
margin = 0.01
"""


def refused(text: str, folder: Path) -> str:
    file = folder / "family.toml"
    file.write_text(text)
    with pytest.raises(StoreError) as caught:
        read_family(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith((str(file), f"cannot read {file}"))
    return message


def test_the_committed_file_holds_every_claim_that_was_promised():
    claims = {claim.id: claim for claim in family()}
    assert read_family(FILE) == family()
    promised = {
        "paf": ("full", "no_paf"),
        "mcl": ("full", "no_mcl"),
        "ama_equal": ("full", "no_ama"),
        "ama_fixed": ("full", "fixed_weights"),
        "identity_start": ("full", "no_identity_start"),
        "local_aspects": ("full", "local_words"),
        "gate": ("full", "no_gate"),
        "focus": ("full", "no_focus"),
        "pyramid": ("full", "no_pyramid"),
        "second_look_stages": ("full_two_looks", "one_stage_two_looks"),
        "second_look_paf": ("full_two_looks", "no_paf_two_looks"),
        **{f"beats_{baseline}": ("full", baseline) for baseline in GROUPS["baselines"]},
    }
    assert {name: (claims[name].ours, claims[name].other) for name in promised} == promised
    asked = {claim.ours for claim in family() if claim.metric == "fall_other_image"}
    assert asked >= {"full", *GROUPS["baselines"]} - {"text_only"}  # which reads no image
    assert all(claim.margin == claim.smallest == 0.01 for claim in family() if claim.metric == "f1")
    assert {claim.direction for claim in family() if claim.metric == "tweets_until"} == {"lower"}


def test_a_claims_sign_is_positive_in_its_favour():
    signs = {claim.id: claim.sign for claim in family()}
    assert (signs["paf"], signs["paf_sooner"], signs["noise_attention"], signs["aligned"]) == (1, -1, -1, 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('other = "no_paf"', 'other = "no_pfa"', "claim 'paf': no variant 'no_pfa' in repro/plan/variants.py"),
        ('other = "no_paf"', "", "claim 'paf': f1 compares two systems"),
        ('metric = "f1"', 'metric = "cosine_gap"', "claim 'paf': cosine_gap compares no systems"),
        ('other = "no_paf"', 'other = "full"', "claim 'paf': a system compared with itself"),
        ('metric = "f1"', 'metric = "f2"', "claim 'paf': metric: Input should be 'f1'"),
        ("margin = 0.01", "margin = 0", "claim 'paf': margin: Input should be greater than 0"),
        ("margin = 0.01", "", "claim 'paf': margin: Field required"),
        ("margin = 0.01", "margin = 0.01\nseeds = 3", "claim 'paf': seeds: Extra inputs are not permitted"),
        ('data = ["synthetic"]', 'data = ["cifar"]', "claim 'paf': data.0: Input should be 'synthetic'"),
        ('data = ["synthetic"]', "data = []", "claim 'paf': data: "),
        ('direction = "higher"', 'direction = "up"', "claim 'paf': direction: "),
        ('id = "paf"', "", "claim number 1: id: Field required"),
        ("[[claim]]", "[claim]", "not a list of [[claim]] and nothing else"),
        ("[[claim]]", "[[claims]]", "not a list of [[claim]] and nothing else"),
        ("margin = 0.01", "margin = ", "not TOML: "),
    ],
)
def test_a_fault_is_named_in_one_line(old: str, new: str, said: str, tmp_path: Path):
    assert said in refused(SOUND.replace(old, new), tmp_path)


def test_claims_are_told_apart(tmp_path: Path):
    assert "claim 'paf': id given twice" in refused(SOUND + SOUND, tmp_path)
    again = SOUND.replace('"paf"', '"paf_again"')
    assert "claim 'it helps': sentence given twice" in refused(SOUND + again, tmp_path)


def test_what_cannot_be_pooled_is_not(tmp_path: Path):
    text = SOUND.replace('"f1"', '"tweets_until"').replace('["synthetic"]', '["pooled"]')
    assert "tweets_until cannot be pooled" in refused(text, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(StoreError, match=r"cannot read .*none\.toml: No such file"):
        read_family(tmp_path / "none.toml")


def test_every_system_of_the_family_is_one():
    assert {name for claim in family() for name in (claim.ours, claim.other) if name} <= set(VARIANTS)
