"""`clamp demo`: a local page to try a trained model on."""

from __future__ import annotations

import argparse
from typing import Any

from clamp.inference.model_folder import model_folder
from clamp.system.command_line import add_device, positive, use_device

_DESCRIPTION = """\
Open a page on this machine to try a model on (pip install "clamp-repro[demo]"): type a tweet, drop a picture, see its
aspects, their probabilities and where each stage looked. The page is an API too: its foot says how to call it.

  clamp demo --model MODEL/model
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "demo",
        help="a local page to try a model on",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--model", required=True, metavar="DIR", help="a trained model's folder, or its name on the model hub"
    )
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="who may come: 0.0.0.0 for all (default: this machine)"
    )
    command.add_argument("--port", type=positive, default=7860, metavar="N", help="(default: %(default)s)")
    add_device(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    folder = model_folder(options.model)
    use_device(options)
    import torch

    from clamp.data import generate_synthetic
    from clamp.inference.demo import demo_page
    from clamp.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(folder)
    predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
    examples = [[" ".join(tweet.words), tweet.image] for tweet in generate_synthetic(3, seed=0)]
    page = demo_page(predictor, examples)
    page.launch(server_name=options.host, server_port=options.port, share=False, show_error=True)
    return 0
