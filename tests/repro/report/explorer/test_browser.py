"""The explorer in a real browser: pointing, clicking and keys, in both colour schemes, on a desk, a phone and paper."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explorer_pages import HOSTILE, KEPT, made_up_evidence, save_models, write_own

from repro.report.explorer.own_tweets import own_page
from repro.report.page import as_html

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the test extra")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 400, "height": 800}
_COLOURS_OF_TEXT = """() => [...document.querySelectorAll('.explorer *')].flatMap((node) => {
  const texts = [...node.childNodes].filter((child) => child.nodeType === 3 && child.data.trim());
  if (!texts.length || !node.getClientRects().length || node.closest('.box')) return [];
  let ground = node;
  while (ground && getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
  const back = ground ? getComputedStyle(ground).backgroundColor : 'rgb(255, 255, 255)';
  return [[getComputedStyle(node).color, back, texts[0].data.trim()]];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(f"needs a Chromium on the path: one of {', '.join(_NAMES)}")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's own does not work for root
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    clamp, text_only = save_models(folder / "models")
    made = {name: as_html(made_up_evidence(name), [], [], folder) for name in ("rich", "old")}
    made["own"] = own_page(clamp, write_own(folder / "own", 5), folder / "own" / "images", text_only)
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def visit(browser: Any, pages: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page from its file; at the end nothing was complained of on the console, and nothing was asked for."""
    complaints: list[str] = []
    contexts = []

    def open_page(name: str, **context: Any) -> Any:
        contexts.append(browser.new_context(**({"viewport": WIDE} | context)))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        address = f"file://{pages[name]}"
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((address, "data:image/")) else complaints.append(asked.url[:80]),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def heats(page: Any) -> list[list[int]]:
    """The pixels of every stage's canvas."""
    return page.evaluate("""() => [...document.querySelectorAll(".live canvas")].map((canvas) => {
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
    })""")


def expected_heats(page: Any, tweet: int, aspect: int) -> list[list[int]]:
    """The same from the page's data."""
    data = page.evaluate("() => JSON.parse(document.querySelector('script[type=\"application/json\"]').textContent)")
    palette = np.frombuffer(bytes.fromhex(data["colours"]), np.uint8).reshape(256, 3)
    levels = [np.frombuffer(bytes.fromhex(s["heat"][aspect]), np.uint8) for s in data["tweets"][tweet]["stages"]]
    return [np.insert(palette[levels_R], 3, 255, axis=1).ravel().tolist() for levels_R in levels]


def checked(page: Any) -> list[str | None]:
    return [b.get_attribute("aria-checked") for b in page.locator(".live .words button").all()]


def with_aspects(page: Any, number: int) -> int:
    """The first tweet with so many aspects."""
    return page.evaluate(
        "(n) => JSON.parse(document.querySelector('script[type=\"application/json\"]').textContent)"
        ".tweets.findIndex((tweet) => tweet.aspects.length === n)",
        number,
    )


def test_pointing_at_an_aspect_moves_the_heat_the_box_and_the_gate(visit: Callable[..., Any]) -> None:
    page = visit("rich")
    tweet = with_aspects(page, 2)
    page.locator(".tweets [role=option]").nth(tweet).click()
    assert heats(page) == expected_heats(page, tweet, 0)
    first = [page.locator(".live figcaption").nth(k).inner_text() for k in range(4)]
    box = page.locator(".live .own").first.bounding_box()
    page.locator(".live .words button").nth(1).hover()
    assert heats(page) == expected_heats(page, tweet, 1) != expected_heats(page, tweet, 0)
    second = [page.locator(".live figcaption").nth(k).inner_text() for k in range(4)]
    assert first[0] == second[0] == "Image"
    assert all(was != now and "gate 0." in now for was, now in zip(first[1:], second[1:], strict=True))
    assert page.locator(".live .own").first.bounding_box() != box
    assert checked(page) == ["false", "true"]
    assert page.locator(".live tbody tr.chosen").inner_text().startswith("2 ")
    page.locator(".live .keys").hover()  # away from it: it stays
    assert checked(page) == ["false", "true"]


def test_boxes_lie_on_the_cells(visit: Callable[..., Any]) -> None:
    page = visit("rich")
    data = page.evaluate("() => JSON.parse(document.querySelector('script[type=\"application/json\"]').textContent)")
    first = data["tweets"][0]
    for figure in page.locator(".live figure").all():
        whole = figure.locator(".picture").bounding_box()
        for kind, cells in (("own", [first["aspects"][0]["cell"]]), ("distractor", first["distractors"])):
            boxes = figure.locator(f".{kind}").all()
            assert len(boxes) == len(cells)
            for found, cell in zip(boxes, cells, strict=True):
                place, side = found.bounding_box(), whole["width"] / 4
                assert place["width"] == pytest.approx(side, abs=0.5)
                assert place["x"] == pytest.approx(whole["x"] + side * (cell % 4), abs=0.5)
                assert place["y"] == pytest.approx(whole["y"] + side * (cell // 4), abs=0.5)
    assert page.locator(".live .own").first.evaluate("(e) => getComputedStyle(e).borderStyle") == "solid"
    assert page.locator(".live .distractor").first.evaluate("(e) => getComputedStyle(e).borderStyle") == "dashed"


def test_the_keyboard_alone_does_it_all(visit: Callable[..., Any]) -> None:
    page = visit("rich")
    for _ in range(30):  # past the links of the contents
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.getAttribute('role')") == "listbox":
            break
    names = page.locator(".tweets [role=option] .name").all_inner_texts()

    def selected() -> str:
        (one,) = page.locator(".tweets [aria-selected=true]").all()
        assert page.locator(".tweets").get_attribute("aria-activedescendant") == one.get_attribute("id")
        return one.locator(".name").inner_text()

    assert selected() == names[0]
    for key, index in (
        ("ArrowDown", 1),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
        ("End", KEPT),
        ("ArrowDown", KEPT),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert selected() == names[index]
        assert heats(page) == expected_heats(page, index, 0)
    tweet = with_aspects(page, 3)
    for _ in range(tweet):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    visible = "() => [document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
    assert page.evaluate(visible) == ["BUTTON", "solid"]
    for key, aspect in (
        ("ArrowRight", 1),
        ("ArrowDown", 2),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("Home", 0),
        ("End", 2),
    ):
        page.keyboard.press(key)
        assert checked(page) == [str(k == aspect).lower() for k in range(3)]
        assert heats(page) == expected_heats(page, tweet, aspect)
        assert page.locator(".spoken").inner_text().startswith(f"Aspect {aspect + 1} of 3, ")
    page.keyboard.press("Tab")
    assert page.evaluate(visible) == ["INPUT", "solid"]
    page.keyboard.press("Space")
    assert page.locator(".live .distractor").first.is_hidden()
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert page.locator(".live canvas").first.evaluate("(e) => getComputedStyle(e).opacity") == "0"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert checked(page) == ["false", "false", "true"]


def test_distractors_and_heat_can_be_turned_down(visit: Callable[..., Any]) -> None:
    page = visit("rich")
    switch = page.get_by_label("show distractors")
    assert switch.is_checked()
    assert page.locator(".live .distractor").first.is_visible()
    switch.click()
    assert not any(box.is_visible() for box in page.locator(".live .distractor").all())
    assert page.locator(".live .own").first.is_visible()
    page.locator(".tweets [role=option]").nth(1).click()  # the choice outlives the tweet
    assert not any(box.is_visible() for box in page.locator(".live .distractor").all())
    switch.click()
    assert page.locator(".live .distractor").first.is_visible()
    page.get_by_label("heat strength").fill("25")
    opacities = {c.evaluate("(e) => getComputedStyle(e).opacity") for c in page.locator(".live canvas").all()}
    assert opacities == {"0.25"}


def test_roles_and_names_are_what_a_screen_reader_needs(visit: Callable[..., Any]) -> None:
    page = visit("rich")
    assert page.get_by_role("listbox", name="Tweets").get_by_role("option").count() == KEPT + 1
    group = page.get_by_role("radiogroup", name="Aspects of this tweet")
    assert group.get_by_role("radio", checked=True).count() == 1
    stages = page.get_by_role("img", name=re.compile(r"^Stage \d: where “.+” looks\. Highest: \d+\s%"))
    assert stages.count() == 3
    assert page.get_by_role("slider", name="heat strength").count() == 1
    assert page.get_by_role("columnheader").all_inner_texts()[-5:] == [
        "aspect",
        "told by",
        "gold",
        "CLAMP",
        "text only",
    ]


def test_labels_of_text_only_stand_beside_claims_and_gold(visit: Callable[..., Any]) -> None:
    rich, old = visit("rich"), visit("old")
    for page, shown in ((rich, ["not kept", "right"]), (old, ["not kept"])):
        labels = []
        for option in page.locator(".tweets [role=option]").all():
            option.click()
            labels += page.locator(".live tbody tr td:last-child").all_inner_texts()
        assert sorted({label.split(", ")[-1] for label in labels}) == shown
    assert "Text only also finds “" in rich.locator(".live .also").inner_text()


def test_own_tweets_and_hostile_words(visit: Callable[..., Any]) -> None:
    page = visit("own")
    title = page.title()
    assert title == "Where CLAMP looks: own.jsonl"
    for option in page.locator(".tweets [role=option]").all():
        option.click()
        assert HOSTILE.split()[-1] in page.locator(".live .words").inner_text()
        for button in page.locator(".live .words button").all():
            button.hover()
    assert page.title() == title  # no script of theirs ran
    assert (
        page.locator(".live img[src=x]").count() == page.locator(".explorer .own, .explorer .distractor").count() == 0
    )
    assert page.locator(".live thead th").all_inner_texts() == ["aspect", "CLAMP", "text only"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["desk", "phone"])
@pytest.mark.parametrize("name", ["rich", "own"])
def test_it_fits_and_has_contrast(
    name: str, viewport: dict[str, int], scheme: str, visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit(name, viewport=viewport, color_scheme=scheme)
    page.locator(".explorer").screenshot(path=tmp_path / "explorer.png")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator(".live").is_visible()
    assert page.locator(".still").is_hidden()
    found = page.evaluate(_COLOURS_OF_TEXT)
    assert len(found) > 20
    assert {text: ratio for ink, ground, text in found if (ratio := contrast(ink, ground)) < 4.5} == {}


def contrast(ink: str, ground: str) -> float:
    """Of two CSS colours, as the Web Content Accessibility Guidelines 2.2 define it; AA asks for 4.5."""
    lightness = []
    for colour in (ink, ground):
        level_3 = np.array([float(x) for x in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear_3 = np.where(level_3 <= 0.04045, level_3 / 12.92, ((level_3 + 0.055) / 1.055) ** 2.4)
        lightness.append(float(linear_3 @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lightness) / min(lightness)


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("name", ["rich", "own"])
def test_paper_shows_the_first_view_whatever_was_chosen(name: str, visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(name)
    page.locator(".tweets [role=option]").nth(2).click()
    page.emulate_media(media="print")
    page.locator(".explorer").screenshot(path=tmp_path / "paper.png")
    still = page.locator(".still")
    assert still.is_visible()
    assert page.locator(".live").is_hidden()
    assert still.locator(".name").inner_text() == page.locator(".tweets .name").first.text_content()
    loaded = still.locator("img").evaluate_all("(all) => all.map((img) => img.complete && img.naturalWidth > 0)")
    assert loaded == [True] * 7  # the image, and for each stage the image and its heat
    assert page.pdf().startswith(b"%PDF-")


def test_without_scripts_the_first_view_stands(visit: Callable[..., Any]) -> None:
    page = visit("rich", java_script_enabled=False)
    assert page.locator(".still").is_visible()
    assert page.locator(".live").is_hidden()
    assert "Choosing needs JavaScript" in page.locator(".explorer").inner_text()
