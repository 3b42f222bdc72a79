"""`clamp evaluate`: how a trained model scores on annotated tweets of one's own."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clamp.data.own_data import has_proxies, proxy_fields

if TYPE_CHECKING:
    from clamp.config import ProxyField
    from clamp.data.twitter import Visual
    from clamp.inference.predictor import Predictor
    from clamp.model import Tagger

_DESCRIPTION = """\
Score a trained model on annotated tweets: joint extraction (span and polarity exact), extraction alone, and polarity of
the annotated spans.

  clamp evaluate --model MODEL/model --data DIR
"""

_DETAILS = """\
DIR holds the split as .json, .txt (CoNLL) or .tsv, with images/ or visual_proxy.json, as `clamp train --help` has it.

exit code: 0 scored; 2 unusable model or data, and one line says why
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "evaluate",
        help="score a model on annotated tweets of your own",
        description=_DESCRIPTION,
        epilog=_DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--model", required=True, metavar="DIR", help="a trained model's folder, or its name on the model hub"
    )
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="the annotated tweets")
    command.add_argument("--split", default="test", choices=["train", "dev", "test"], help="(default: test)")
    command.add_argument("--json", action="store_true", help="print all scores as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    import torch

    from clamp.data import load_twitter
    from clamp.data.collate import EncodedTweets
    from clamp.evaluate import predict, score
    from clamp.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(options.model)
    model = predictor.model
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    visual = _visual(model, options.data)
    fields = (_fields_of_training(predictor) or proxy_fields(options.data)) if visual == "proxy" else ()
    if model.uses_image or visual == "proxy":
        read = ", ".join(fields) or ("pixels" if visual == "image" else "nothing")
        print(f"of images is read: {read}", file=sys.stderr)
    tweets = load_twitter(options.data, options.split, visual=visual, proxy_fields=fields)
    scores = score(predict(model, EncodedTweets(tweets, model.tokenizer, model.config)), tweets)
    if options.json:
        print(json.dumps({"tweets": len(tweets), **scores}))
        return 0
    print(f"{len(tweets)} tweets, exact match, in percent")
    for name, title in (("joint", "span and polarity"), ("mate", "span")):
        values = ", ".join(f"{key} {100 * scores[name][key]:.1f}" for key in ("precision", "recall", "f1"))
        print(f"{title:32} {values}")
    accuracy, macro_f1 = (100 * scores["masc"][name] for name in ("accuracy", "macro_f1"))
    print(f"{'polarity of annotated spans':32} accuracy {accuracy:.1f}, macro F1 {macro_f1:.1f}")
    return 0


def _visual(model: Tagger, data: Path) -> Visual:
    """What the model reads of an image, where the folder has it."""
    if model.config.architecture == "caption_concat":
        return "proxy"
    if not model.uses_image:
        return "none"
    if model.config.vision.kind != "proxy":
        return "image"
    return "proxy" if has_proxies(data) else "none"  # trained without, perhaps


def _fields_of_training(predictor: Predictor) -> tuple[ProxyField, ...] | None:
    """What the model's proxies were made of, where the record of its run lies beside it and tells."""
    try:
        return tuple((predictor.record or {})["config"]["data"]["proxy_fields"])
    except (KeyError, TypeError):
        return None
