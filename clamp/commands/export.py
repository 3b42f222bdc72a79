"""`clamp export`: a trained model as an ONNX graph, for runtimes other than PyTorch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from clamp.inference.model_folder import model_folder

_DESCRIPTION = """\
Write a trained model as an ONNX graph (pip install "clamp-repro[onnx]"), checked against PyTorch under onnxruntime.

  clamp export --model MODEL/model --onnx model.onnx
"""

_DETAILS = """\
The graph takes one tweet: token_ids (1, S), first (1, T), the place of each word's first sub-word, and of a model that
reads images pixels (1, 3, side, side) uint8 and has_image (1,); S and T may be anything. It gives tag_logits (1, T, 7).
The tokenizer, the decoding and resizing of images, and the reading of aspects from logits are not in it.

exit code: 0 written; 2 the model has no such graph, or one that differs, and one line says why
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "export",
        help="write a model as an ONNX graph",
        description=_DESCRIPTION,
        epilog=_DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--model", required=True, metavar="DIR", help="a trained model's folder, or its name on the model hub"
    )
    command.add_argument("--onnx", type=Path, required=True, metavar="OUT", help="the file to write")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    folder = model_folder(options.model)
    from clamp.inference.onnx_export import export_onnx
    from clamp.inference.predictor import Predictor

    worst = export_onnx(Predictor.from_pretrained(folder).model, options.onnx)
    print(f"{options.onnx}: logits differ from PyTorch's by {worst:.1e} at most", file=sys.stderr)
    return 0
