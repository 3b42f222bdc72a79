"""What measuring and showing agree on."""

from __future__ import annotations

from repro.plan.variants import GROUPS, means_something

SCHEMA = 3  # of results/efficiency/cpu.json and gpu.json
PROFILE = "synthetic"  # whose F1 is shown against cost
PROFILE_VARIANTS = tuple(variant for variant in GROUPS["main"] if means_something(variant, PROFILE, "synthetic"))
TEXT, IMAGE, FUSION, HEADS, CONTRAST, OPTIMISER = (  # parts of a step
    "text encoder", "image encoder", "progressive fusion", "heads", "contrast", "optimiser",
)  # fmt: skip
ANY_LENGTH, ONE_LENGTH = "any length", "one length"  # of text that a compiled model takes
EVERYTHING, FUSION_ALONE = "everything", "fusion alone"  # that is compiled; fusion is CLAMP's own but for the tag head
