"""The page to try a model on, as `clamp demo` serves it: in a real browser, and as an API."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny_config, tiny_model
from PIL import Image

from clamp.inference.predictor import Predictor

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason='needs gradio: pip install ".[demo]"')
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the test extra")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)
TEXT = "the red kite looks awful"
# Without a network the page's own fonts and its look for other Gradio hosts are refused.
_OF_THE_NETWORK = re.compile(r"ERR_(NAME_NOT_RESOLVED|INTERNET_DISCONNECTED|CONNECTION|TUNNEL|PROXY)")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A model that finds an aspect in TEXT, by the seed of its random weights."""
    for seed in range(50):
        model = tiny_model(tiny_config().model, seed=seed)
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
        if 0 < len(Predictor(model)(TEXT).aspects) < 5:
            return Predictor(model)
    raise AssertionError("no seed finds an aspect")


@pytest.fixture(scope="module")
def address(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the command serves it, on this machine."""
    folder = tmp_path_factory.mktemp("demo")
    predictor.save_pretrained(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clamp", "demo", "--model", str(folder / "model"), "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"GRADIO_TEMP_DIR": str(folder / "uploads")})
    where = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not _answers(where):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.5)
        yield where
    finally:
        process.kill()
        process.wait()


def _answers(where: str) -> bool:
    try:
        with urllib.request.urlopen(where, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The page in a browser; in the end its console held no error."""
    if CHROMIUM is None:
        pytest.skip(f"needs a Chromium on the path: one of {', '.join(_NAMES)}")
    complaints: list[str] = []
    with sync_api.sync_playwright() as driver:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's own does not work for root
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert [said for said in complaints if not _OF_THE_NETWORK.search(said)] == []


def test_typing_uploading_and_clicking_show_aspects_and_where_it_looked(
    page: Any, predictor: Predictor, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    expected = predictor(TEXT, pixels)
    page.get_by_label("Tweet").fill(TEXT)
    upload(page, tmp_path / "picture.png")
    page.get_by_role("button", name="Find aspects").click()
    page.locator(".gallery-item, .thumbnail-item, [data-testid=detailed-image]").first.wait_for(timeout=60_000)
    said = page.locator("body").inner_text()
    for number in (1, 2, 3):
        assert f"stage {number} (" in said
    assert expected.aspects
    for aspect in expected.aspects:
        assert f"{max(aspect.probabilities):.3f}".rstrip("0") in said
    page.screenshot(path=tmp_path / "demo.png", full_page=True)


def upload(page: Any, picture: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(picture)
    page.locator(f"img[src*='{picture.name}']").first.wait_for(state="attached")


def test_an_empty_tweet_and_a_file_that_is_no_picture_are_told(page: Any, tmp_path: Path) -> None:
    page.get_by_role("button", name="Find aspects").click()
    page.get_by_text("Type a tweet first.").wait_for()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.get_by_label("Tweet").fill(TEXT)
    upload(page, tmp_path / "broken.png")
    page.get_by_role("button", name="Find aspects").click()
    page.get_by_text("Picture: ").wait_for()


def test_the_page_is_an_api_too(address: str, predictor: Predictor) -> None:
    """In two requests, as Gradio's documentation says: one asks, the other reads the answer's events."""
    body = json.dumps({"data": [TEXT, None]}).encode()
    asked = urllib.request.Request(
        f"{address}/gradio_api/call/predict", body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/predict/{event}", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    _, table, heat = json.loads(lines[lines.index("event: complete") + 1].removeprefix("data: "))
    assert [row[0] for row in table["data"]] == [aspect.text for aspect in predictor(TEXT).aspects]
    assert heat == []
