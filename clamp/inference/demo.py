"""A page to try a model on: a tweet and a picture in, aspects, probabilities and where each stage looked out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clamp.config import ConfigError
from clamp.data.collate import EncodedTweets
from clamp.data.images import read_image
from clamp.data.schema import POLARITIES, DataError, Tweet
from clamp.inference.forward import reads_pixels
from clamp.inference.prediction import Prediction
from clamp.inference.predictor import Predictor
from clamp.pyramid import regions_of

_NAMES = dict(zip(POLARITIES, ("positive", "neutral", "negative"), strict=True))
_COLOURS = {"positive": "#2f9e44", "neutral": "#868e96", "negative": "#e03131"}
_SIDE = 320  # pixels of a picture on the page
_HEADER = ["aspect", "polarity", *_NAMES.values()]

Highlighted = list[tuple[str, str | None]]


def looked_at(predictor: Predictor, prediction: Prediction, image: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """For each stage, the image (H, W, 3) uint8 lit where the aspects' words looked, and what the stage is called.

    Each region is as bright as its share of the strongest one's attention; all of it is dark where nothing was found.
    """
    model = predictor.model
    if not prediction.aspects or not reads_pixels(model):
        return []
    words = [word for aspect in prediction.aspects for word in range(aspect.start, aspect.end)]
    data = EncodedTweets([Tweet("", prediction.words, (), image)], model.tokenizer, model.config)
    with torch.no_grad():
        output = model(data.batch([0]).to(next(model.parameters()).device), need_attention=True)
    small = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE)))
    shown = []
    for number, stage in enumerate(output.stages, start=1):
        assert stage.attention_BTR is not None
        share_R = stage.attention_BTR[0, words].mean(dim=0).float().cpu().numpy()
        heat_P = np.zeros(output.grid[0] * output.grid[1])
        for share, patches in zip(share_R, regions_of(stage.level, output.grid), strict=True):
            heat_P[list(patches)] = share
        heat = Image.fromarray((255 * heat_P / max(heat_P.max(), 1e-9)).astype(np.uint8).reshape(output.grid))
        light_HW1 = np.asarray(heat.resize((_SIDE, _SIDE), Image.Resampling.NEAREST))[..., None] / 255
        shown.append(((small * (0.2 + 0.8 * light_HW1)).astype(np.uint8), f"stage {number} ({stage.level})"))
    return shown


def picture_of(file: str | None, error: type[Exception]) -> np.ndarray | None:
    """The pixels of an uploaded file, read as they are for training; `error`, with the reason alone, where they
    cannot be."""
    if file is None:
        return None
    try:
        return read_image(Path(file))
    except DataError as fault:
        raise error(f"Picture: {str(fault).removeprefix(f'{file}: ')}") from None


def highlighted(text: str, prediction: Prediction) -> Highlighted:
    """The text in pieces, those that are aspects with their polarity."""
    pieces: Highlighted = []
    end = 0
    for aspect in sorted(prediction.aspects, key=lambda aspect: aspect.start):
        assert aspect.start_char is not None
        assert aspect.end_char is not None
        pieces += [(text[end : aspect.start_char], None), (aspect.text, _NAMES[aspect.polarity])]
        end = aspect.end_char
    return [piece for piece in [*pieces, (text[end:], None)] if piece[0]]


def demo_page(predictor: Predictor, examples: list[list[Any]]) -> Any:
    """The Gradio app, not yet launched; `examples` are rows of a text and an image or None. Its API is /predict.

    ConfigError where Gradio is not installed.
    """
    try:
        gradio = importlib.import_module("gradio")
    except ImportError:
        raise ConfigError('demo: Gradio is not installed here; run: pip install "clamp-repro[demo]"') from None

    def answer(text: str, file: str | None) -> tuple[Highlighted, list[list[Any]], list[Any]]:
        if not text.strip():
            raise gradio.Error("Type a tweet first.")
        image = picture_of(file, gradio.Error)
        found = predictor(text, image)
        rows = [[a.text, _NAMES[a.polarity], *(round(p, 3) for p in a.probabilities)] for a in found.aspects]
        return highlighted(text, found), rows, [] if image is None else looked_at(predictor, found, image)

    with gradio.Blocks(title="CLAMP", analytics_enabled=False) as page:
        gradio.Markdown("# Aspects in a tweet, and the sentiment towards each")
        with gradio.Row():
            with gradio.Column():
                text = gradio.Textbox(label="Tweet", lines=3)
                image = gradio.Image(label="Picture", type="filepath", sources=["upload", "clipboard"])
                # Gradio's own reading makes black of what is transparent, and ends in a traceback where it cannot read
                image.preprocess = lambda file: None if file is None else file.path
                button = gradio.Button("Find aspects", variant="primary")
                gradio.Examples(examples, [text, image])
            with gradio.Column():
                told = gradio.HighlightedText(label="Aspects", color_map=_COLOURS)
                table = gradio.Dataframe(headers=_HEADER, label="Probabilities", interactive=False)
                heat = gradio.Gallery(label="Where each stage looked, over all aspects", columns=3)
        for event in (button.click, text.submit):
            event(answer, [text, image], [told, table, heat], api_name="predict" if event == button.click else False)
    return page
