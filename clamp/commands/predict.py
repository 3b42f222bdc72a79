"""`clamp predict`: one tweet, or a file of them."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clamp.config import ConfigError
from clamp.data.schema import DataError
from clamp.inference.model_folder import model_folder
from clamp.system.command_line import add_device, gpu_share, positive, use_device

if TYPE_CHECKING:
    from clamp.inference.predictor import Predictor

_DESCRIPTION = """\
Find the aspects in tweets with their images, and the sentiment towards each of them.

one tweet:   clamp predict --model DIR --text "a lovely evening at the river" --image photo.jpg
a corpus:    clamp predict --model DIR tweets.jsonl --images photos/ --out found.jsonl
"""

_DETAILS = """\
The corpus is .jsonl, a table with a header (.csv; commas, semicolons or tabs), .parquet (which needs pyarrow: pip
install "clamp-repro[parquet]"), or annotated tweets (.json, .txt, .conll, .tsv), whose annotations are left aside; the
output is .jsonl, .csv, .parquet or .conll, as its name says. A record has
  text    the tweet; or else
  words   the tweet split into words, a list (in a table: as JSON or Python writes it)
  id      its name in the output; without one, its line (in Parquet: its row)
  image   a file under --images, or its content as in the data sets of Hugging Face; without one the tweet is predicted
          from its words
  proxy   what was said of the image, for models that read that in place of it
  aspects the aspects whose polarity is asked for, [{"start": 1, "end": 3}] in words, or {"start_char", "end_char"} in
          the text, the end exclusive; without it aspects are found
  target  the aspect whose polarity is asked for, where the text has $T$ in its place
and other fields are not used. Usual other names (image_id, photo, tweet, sentence, tokens, ...) are taken. Of tables
and JSON lines both are said. The output has, in the same order: id, words, words_read (a model reads only so many),
aspects: start and end (words), text, polarity, its probability, the probabilities of all three, start_char and
end_char (where the record had text), and with --regions the regions of the image that the aspect's words attended to
most; and image: read, truncated (read, though it lacks its end), absent, unread and why, none, or not used (the model
reads none). In CSV, words and aspects are JSON.

A tweet whose image is absent or cannot be read is predicted from its words. A record that cannot be used is named in
OUT.errors.jsonl, with its line and the reason, and the others are predicted. However the command is stopped, give it
again to go on: what is done lies in OUT.unfinished/ until all is, and OUT appears when it is complete, in the place of
an older file of that name.

exit code: 0 all records were predicted; 1 some were left out and are named in OUT.errors.jsonl; 2 nothing can be done
with this model, corpus or output, and one line says why; 130 interrupted, 143 terminated
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "predict",
        help="find aspects and sentiments in a tweet or a file of tweets",
        description=_DESCRIPTION,
        epilog=_DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("corpus", nargs="?", type=Path, metavar="CORPUS", help="the file of tweets to predict")
    command.add_argument(
        "--model", required=True, metavar="DIR", help="a trained model's folder, or its name on the model hub"
    )
    command.add_argument("--text", help="the one tweet to predict")
    command.add_argument("--image", type=Path, metavar="FILE", help="the image of --text")
    command.add_argument("--proxy", metavar="TEXT", help="what was said of the image of --text")
    command.add_argument("--json", action="store_true", help="print the prediction of --text as JSON")
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="the folder of the corpus's images (default: that of the corpus, then images/ as for training)",
    )
    command.add_argument(
        "--skip-without-image",
        action="store_true",
        help="leave out tweets of the corpus whose image is absent or cannot be read, and name them among the errors",
    )
    command.add_argument("--out", type=Path, metavar="OUT", help="where the predictions of the corpus go")
    command.add_argument("--regions", action="store_true", help="also tell where in the image the model looked")
    command.add_argument(
        "--batch-size", type=positive, metavar="N", help="tweets of the corpus predicted at a time (default: 32)"
    )
    add_device(command)
    command.add_argument(
        "--engine",
        choices=["local", "ray"],
        help="where a corpus is predicted: on this machine, or on the Ray cluster that it belongs to, whose nodes all "
        'need pip install "clamp-repro[ray]", and the model, the corpus and its images at the same paths '
        "(default: local)",
    )
    command.add_argument(
        "--address", metavar="ADDRESS", help="the Ray cluster: HOST:PORT of its head, or auto (default: auto)"
    )
    command.add_argument(
        "--gpus-per-task",
        type=gpu_share,
        metavar="SHARE",
        help="the share of a GPU of the Ray cluster that each task gets, above 0 and at most 1 (default: none)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    _check(options)
    model = model_folder(options.model)
    use_device(options)
    import torch

    from clamp.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(model)
    predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return _predict_one(predictor, options) if options.text is not None else _predict_corpus(predictor, options)


def _check(options: argparse.Namespace) -> None:
    """ConfigError where options do not go together."""
    if (options.corpus is None) == (options.text is None):
        raise ConfigError("predict: give either a file of tweets or --text")
    one = {"--image": options.image, "--proxy": options.proxy, "--json": options.json or None}
    many = {
        "--images": options.images, "--out": options.out, "--batch-size": options.batch_size,
        "--skip-without-image": options.skip_without_image or None,
        "--engine": options.engine, "--address": options.address, "--gpus-per-task": options.gpus_per_task,
    }  # fmt: skip
    unused, other = (many, "a file of tweets") if options.corpus is None else (one, "--text")
    for name, value in unused.items():
        if value is not None:
            raise ConfigError(f"predict: {name} goes with {other}")
    if options.corpus is not None and options.out is None:
        raise ConfigError("predict: say with --out where the predictions go")
    if options.engine != "ray" and (options.address or options.gpus_per_task):
        raise ConfigError("predict: --address and --gpus-per-task go with --engine ray")


def _predict_one(predictor: Predictor, options: argparse.Namespace) -> int:
    from clamp.inference.forward import reads_pixels, reads_proxies

    architecture = predictor.model.config.architecture
    if options.image is not None and not reads_pixels(predictor.model):
        other = " but what was said of it: give that with --proxy" if reads_proxies(predictor.model) else ""
        raise ConfigError(f"--image: this {architecture} model reads no image{other}")
    if options.proxy is not None and not reads_proxies(predictor.model):
        raise ConfigError(f"--proxy: this {architecture} model reads nothing that was said of an image")
    found = predictor(options.text, options.image, proxy=options.proxy, regions=options.regions)
    if options.image is not None and found.image not in ("read", "truncated"):
        raise DataError(options.image, None, _why_not_read(found.image, options.image))
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else found)
    return 0


def _why_not_read(image: str, file: Path) -> str:
    """The reason within what a prediction says of its image."""
    return "no such file" if image == "absent" else image.removeprefix("unread: ").removeprefix(f"{file}: ")


def _predict_corpus(predictor: Predictor, options: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from clamp.corpus.job import predict_corpus
    from clamp.corpus.ray import predict_corpus_on_ray
    from clamp.corpus.readers import notes_on
    from clamp.corpus.request import Request, image_folders

    images, *beside = image_folders(options.corpus, options.images)
    request = Request(
        options.corpus,
        options.out,
        images,
        options.regions,
        options.batch_size or 32,
        options.skip_without_image,
        *beside,
    )
    for note in notes_on(options.corpus):
        print(f"{options.corpus.name}: {note}", file=sys.stderr)
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))  # one core is left to all but the model
    with tqdm(unit=" tweets", disable=None) as bar:
        if options.engine == "ray":
            summary = predict_corpus_on_ray(
                predictor, options.model, request, address=options.address or "auto", gpus=options.gpus_per_task or 0.0,
                say=partial(tqdm.write, file=sys.stderr), on_rows=bar.update,
            )  # fmt: skip
        else:
            summary = predict_corpus(predictor, request, bar.update)
    done = f"{summary.rows - summary.left_out} tweets predicted: {options.out}"
    left_out = f"; {summary.left_out} left out, see {request.errors}" if summary.left_out else ""
    print(done + left_out, file=sys.stderr)
    states = ", ".join(f"{n} {state}" for state, n in sorted(summary.images.items())) or "none"
    sought = f" (sought in {' and '.join(map(str, request.image_folders))})" if summary.images.get("absent") else ""
    print(f"images: {states}{sought}", file=sys.stderr)
    return 1 if summary.left_out else 0
