// The attention explorer: fills the live view from the page's own data, with text nodes only. It loads nothing.
"use strict";
(() => {
  const root = document.querySelector(".explorer");
  const live = root.querySelector(".live");
  const { columns, colours, tweets } = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const [list, words, head, body, also, panels, spoken] =
    [".tweets", ".words", "thead", "tbody", ".also", ".panels", ".spoken"].map((name) => live.querySelector(name));
  let tweet = tweets[0];

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  const bytes = (hex) => hex.match(/../g).map((digits) => parseInt(digits, 16));
  const palette = bytes(colours);
  const text = (aspect) => tweet.words.slice(aspect.start, aspect.end).join(" ");

  function row(kind, first, cells) {
    return make("tr", {}, make("th", { scope: kind === "th" ? "col" : "row" }, first),
      ...cells.map((cell) => make(kind, kind === "th" ? { scope: "col" } : {}, cell)));
  }

  function box(cell, kind, label = "") {
    const node = make("span", { class: `box ${kind}` }, label);
    const share = 100 / tweet.cells;
    node.style.left = `${share * (cell % tweet.cells)}%`;
    node.style.top = `${share * Math.floor(cell / tweet.cells)}%`;
    node.style.width = node.style.height = `${share}%`;
    return node;
  }

  const distractors = () => tweet.distractors.map((cell) => box(cell, "distractor"));

  function paint(canvas, stage, heat) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(stage.columns, stage.rows);
    bytes(heat).forEach((level, region) => {
      image.data.set([...palette.slice(3 * level, 3 * level + 3), 255], 4 * region);
    });
    context.putImageData(image, 0, 0);
  }

  function peak(stage, region) {
    const node = make("span", { class: "peak" });
    node.style.left = `${(100 * (region % stage.columns + 0.5)) / stage.columns}%`;
    node.style.top = `${(100 * (Math.floor(region / stage.columns) + 0.5)) / stage.rows}%`;
    return node;
  }

  function gate(opening) {
    const filled = make("span");
    filled.style.width = `${100 * opening}%`;
    return make("span", { class: "gate" }, `gate ${opening.toFixed(2)}`, make("span", { class: "bar" }, filled));
  }

  // A tweet: its words with a button an aspect, its labels, and a panel for the image and one for each stage.
  function showTweet(index) {
    tweet = tweets[index];
    [...list.children].forEach((option, k) => option.setAttribute("aria-selected", String(k === index)));
    list.setAttribute("aria-activedescendant", list.children[index].id);
    words.replaceChildren(...sentence());
    body.replaceChildren(...tweet.aspects.map((aspect, k) => row("td", `${k + 1} ${text(aspect)}`, aspect.labels)));
    also.textContent = tweet.aspects.length ? tweet.also.join(" ") : ["No aspect found.", ...tweet.also].join(" ");
    const stages = tweet.aspects.length ? tweet.stages : [];
    panels.replaceChildren(
      panel(make("img", { src: tweet.image, alt: "The tweet's image" }), make("span", { class: "layer" })),
      ...stages.map((stage) => panel(
        make("img", { src: tweet.image, alt: "", class: "grey" }),
        make("canvas", { class: "heat", role: "img", width: stage.columns, height: stage.rows }),
        make("span", { class: "layer" }),
      )),
    );
    showAspect(0);
  }

  function panel(...layers) {
    return make("figure", {}, make("div", { class: "picture" }, ...layers), make("figcaption"));
  }

  function sentence() {
    const parts = [];
    for (let place = 0; place < tweet.words.length; place += 1) {
      const k = tweet.aspects.findIndex((aspect) => aspect.start === place);
      if (k < 0) {
        parts.push(`${tweet.words[place]} `);
      } else {
        const button = make("button", { type: "button", role: "radio" }, make("b", {}, String(k + 1)), " ", text(tweet.aspects[k]));
        for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, () => showAspect(k));
        parts.push(button, " ");
        place = tweet.aspects[k].end - 1;
      }
    }
    return parts;
  }

  // An aspect: which button and row are chosen, and what every panel shows of it.
  function showAspect(chosen) {
    const aspect = tweet.aspects[chosen];
    words.querySelectorAll("button").forEach((button, k) => {
      button.setAttribute("aria-checked", String(k === chosen));
      button.tabIndex = k === chosen ? 0 : -1;
    });
    [...body.rows].forEach((each, k) => each.classList.toggle("chosen", k === chosen));
    const [picture, ...stages] = panels.children;
    const cells = tweet.aspects.flatMap(({ cell }, k) =>
      cell === null ? [] : [box(cell, k === chosen ? "own" : "other", String(k + 1))]);
    picture.querySelector(".layer").replaceChildren(...distractors(), ...cells);
    picture.querySelector("figcaption").replaceChildren(make("b", {}, "Image"));
    stages.forEach((figure, k) => showStage(figure, tweet.stages[k], aspect, chosen));
    spoken.textContent = aspect ? said(aspect, chosen) : also.textContent;
  }

  function showStage(figure, stage, aspect, chosen) {
    const canvas = figure.querySelector("canvas");
    paint(canvas, stage, stage.heat[chosen]);
    canvas.setAttribute("aria-label", `${stage.title}: where “${text(aspect)}” looks. ${stage.says[chosen]}`);
    const own = aspect.cell === null ? [] : [box(aspect.cell, "own")];
    figure.querySelector(".layer").replaceChildren(...distractors(), ...own, peak(stage, stage.peak[chosen]));
    const opening = stage.gate[chosen];
    figure.querySelector("figcaption").replaceChildren(
      make("b", {}, stage.title), ` ${stage.regions}`, make("br"), stage.says[chosen],
      ...(opening === null ? [] : [gate(opening)]),
    );
  }

  function said(aspect, chosen) {
    const labels = columns.map((name, k) => `${name} ${aspect.labels[k]}`).join("; ");
    return `Aspect ${chosen + 1} of ${tweet.aspects.length}, ${text(aspect)}: ${labels}.`;
  }

  // Where the arrow keys, Home and End lead from `at` among `count`; undefined for other keys.
  function moved(key, at, count) {
    return {
      ArrowDown: Math.min(at + 1, count - 1), ArrowRight: Math.min(at + 1, count - 1),
      ArrowUp: Math.max(at - 1, 0), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: count - 1,
    }[key];
  }

  function steer(container, current, count, choose) {
    container.addEventListener("keydown", (event) => {
      const next = event.ctrlKey || event.altKey || event.metaKey ? undefined : moved(event.key, current(), count());
      if (next !== undefined) {
        event.preventDefault();
        choose(next);
      }
    });
  }

  head.replaceChildren(row("th", "aspect", columns));
  list.replaceChildren(...tweets.map((each, k) => {
    const option = make("div", { role: "option", id: `explorer-tweet-${k}` },
      make("span", { class: "name" }, each.name),
      make("span", { class: "start", dir: "auto" }, each.words.join(" ")),
      make("span", { class: "summary" }, each.summary));
    option.addEventListener("click", () => showTweet(k));
    return option;
  }));
  steer(list, () => tweets.indexOf(tweet), () => tweets.length, (next) => {
    showTweet(next);
    list.children[next].scrollIntoView({ block: "nearest" });
  });
  const buttons = () => [...words.querySelectorAll("button")];
  steer(words, () => buttons().indexOf(document.activeElement), () => buttons().length, (next) => buttons()[next].focus());
  live.querySelector(".distractors")?.addEventListener("change", ({ target }) => {
    live.classList.toggle("without-distractors", !target.checked);
  });
  live.querySelector(".strength").addEventListener("input", ({ target }) => {
    live.style.setProperty("--heat", target.value / 100);
  });
  showTweet(0);
  live.hidden = false;
  root.classList.add("started");
})();
