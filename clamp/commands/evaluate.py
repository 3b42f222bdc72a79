"""`clamp evaluate`: how a trained model scores on annotated tweets of one's own."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clamp.commands.convert import add_labels, labels_of
from clamp.data.own_data import has_proxies, proxy_fields
from clamp.data.schema import POLARITIES, Tweet
from clamp.inference.model_folder import model_folder
from clamp.system.command_line import add_device, use_device
from clamp.system.files import written

if TYPE_CHECKING:
    from clamp.config import ProxyField
    from clamp.data.twitter import Visual
    from clamp.evaluate import Predictions
    from clamp.inference.predictor import Predictor
    from clamp.model import Tagger
    from clamp.tagging import Span

_DESCRIPTION = """\
Score a trained model on annotated tweets: joint extraction (span and polarity exact), extraction alone, and polarity of
the annotated spans; of these each polarity's scores and what is called what; and the kinds of errors in spans.

  clamp evaluate --model MODEL/model --data DIR
"""

_DETAILS = """\
DIR holds the split as `clamp train --help` has it, with images in images/ or beside DIR, or visual_proxy.json.

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
    command.add_argument(
        "--predictions", type=Path, metavar="FILE", help="write what was predicted beside what is annotated, JSON lines"
    )
    add_device(command)
    add_labels(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    model_name = model_folder(options.model)
    use_device(options)
    import torch

    from clamp.commands.error_report import as_text, error_report
    from clamp.corpus.convertible import refuse_convertible
    from clamp.data.collate import EncodedTweets
    from clamp.data.twitter import load_split
    from clamp.evaluate import predict, score
    from clamp.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(model_name)
    model = predictor.model
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    visual = _visual(model, options.data)
    fields = (_fields_of_training(predictor) or proxy_fields(options.data)) if visual == "proxy" else ()
    if model.uses_image or visual == "proxy":
        read = ", ".join(fields) or ("pixels" if visual == "image" else "nothing")
        print(f"of images is read: {read}", file=sys.stderr)
    labels = labels_of(options)
    refuse_convertible(options.data)
    loaded = load_split(options.data, options.split, visual=visual, proxy_fields=fields, labels=labels)
    tweets = loaded.tweets
    for note in (*labels.notes, f"images: {loaded.images}"):
        print(note, file=sys.stderr)
    if loaded.dropped:
        print(f"{loaded.dropped} aspects left out because of their labels", file=sys.stderr)
    found = predict(model, EncodedTweets(tweets, model.tokenizer, model.config))
    scores, errors = score(found, tweets), error_report(found, tweets)
    if options.predictions is not None:
        _write_predictions(options.predictions, found, tweets)
    if options.json:
        print(json.dumps({"tweets": len(tweets), **scores, **errors, "images": asdict(loaded.images)}))
        return 0
    print(f"{len(tweets)} tweets, exact match, in percent")
    for name, title in (("joint", "span and polarity"), ("mate", "span")):
        values = ", ".join(f"{key} {100 * scores[name][key]:.1f}" for key in ("precision", "recall", "f1"))
        print(f"{title:32} {values}")
    accuracy, macro_f1 = (100 * scores["masc"][name] for name in ("accuracy", "macro_f1"))
    print(f"{'polarity of annotated spans':32} accuracy {accuracy:.1f}, macro F1 {macro_f1:.1f}")
    print(as_text(errors))
    return 0


def _write_predictions(file: Path, found: Predictions, tweets: list[Tweet]) -> None:
    """A tweet a line: its words, what is annotated with the probabilities of each polarity, and what was predicted."""
    chances = iter(found.polarities)
    with written(file) as stream:
        for tweet, spans in zip(tweets, found.spans, strict=True):
            gold = [
                _span(tweet, (a.start, a.end, a.polarity))
                | {"probabilities": dict(zip(POLARITIES, map(float, next(chances)), strict=True))}
                for a in tweet.aspects
            ]
            predicted = [_span(tweet, span) for span in spans]
            line = {"id": tweet.id, "words": list(tweet.words), "annotated": gold, "predicted": predicted}
            stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _span(tweet: Tweet, span: Span) -> dict[str, Any]:
    start, end, polarity = span
    return {"start": start, "end": end, "text": " ".join(tweet.words[start:end]), "polarity": polarity}


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
