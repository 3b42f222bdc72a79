"""How the figures look: colours, line styles and names that more than one of them uses.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; line styles and markers repeat what they say.
"""

from __future__ import annotations

from typing import Any

from repro.plan.variants import SUITE, VARIANTS

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
CURVES = {  # variant -> (short name, colour, line style)
    "full": ("CLAMP", BLACK, "-"),
    "no_paf": ("no PAF", BLUE, "--"),
    "no_mcl": ("no MCL", ORANGE, "-."),
    "no_ama": ("no AMA", GREEN, (0, (5, 1, 1, 1, 1, 1))),
    "single_cross_attention": ("single cross-attention", VERMILION, (0, (3, 1))),
    "text_only": ("text only", PURPLE, ":"),
}
SHORT = {variant: VARIANTS[variant].label for variant in SUITE} | {
    "cmmt": "small CMMT",
    "dtca": "small DTCA",
    "image_prefix": "image prefix",
    "caption_concat": "appended caption",
    "one_stage": "one stage",
    "no_pyramid": "no pyramid",
    "no_focus": "no focus",
    "no_gate": "no gate",
    "global_only": "global MCL only",
    "local_only": "local MCL only",
    "fixed_weights": "fixed weights",
    "local_words": "local MCL of words",
    "no_identity_start": "no identity start",
    "no_prior": "AMA without a prior",
    "liebel_koerner": "Liebel and Koerner",
    "softmax_weights": "softmax weights",
    "no_paf_no_mcl": "no PAF, no MCL",
    **{variant: name for variant, (name, _, _) in CURVES.items()},
}
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}
COLUMN = 3.4  # inches: the width of a column of text
