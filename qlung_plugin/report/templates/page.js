"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { cycles, runs, labels, media, spans } = data;
  const indices = cycles.id.map((_, index) => index);
  const find = (selector) => document.querySelector(selector);
  const list = find("#list");
  const form = find("#filters");
  const player = find("#player");
  const pointed = find("#pointed");
  const colors = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  // Within a circle of radius 1.
  const shapes = [
    "M-.85 0a.85.85 0 1 0 1.7 0a.85.85 0 1 0 -1.7 0z",
    "M0 -1L.95 .75H-.95z",
    "M-.75 -.75H.75V.75H-.75z",
    "M0 -1.1L1.1 0L0 1.1L-1.1 0z",
    "M0 1L.95 -.75H-.95z",
    "M-.3 -1H.3V-.3H1V.3H.3V1H-.3V.3H-1V-.3H-.3z",
  ];
  const devices = [...new Set(cycles.device)].sort();
  const shapeOf = (device) => shapes[Math.min(devices.indexOf(device), shapes.length - 1)];

  let run = 0;
  let shown = [];
  let chosen = null;
  let sound = null;

  // Small helpers; text never becomes markup.
  function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    Object.assign(made, properties);
    made.append(...children);
    return made;
  }
  function drawn(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) {
      made.setAttribute(key, value);
    }
    return made;
  }
  const called = (index, of = run) => runs[of].prediction[index];
  const confidence = (index, of = run) => Math.max(...runs[of].probabilities[index]);
  const isRight = (index, of = run) => called(index, of) === cycles.label[index];
  const two = (value) => (value === null ? "n/a" : value.toFixed(2));
  function verdict(index, of = run) {
    const truth = labels[cycles.label[index]];
    return isRight(index, of) ? `${truth}, called so` : `${truth}, called ${labels[called(index, of)]}`;
  }

  // The list of cycles
  const orders = {
    mistakes: (index) => (isRight(index) ? 1 + confidence(index) : -confidence(index)),
    sure: (index) => -confidence(index),
    unsure: confidence,
    quality: (index) => runs[run].quality[index] ?? Infinity,
    recording: (index) => index,
  };
  const value = (name) => (form.elements[name] ? form.elements[name].value : "");

  function passes(index) {
    const quality = runs[run].quality[index];
    const [from, to] = [value("from"), value("to")];
    return (
      (value("label") === "" || cycles.label[index] === Number(value("label"))) &&
      (value("prediction") === "" || called(index) === Number(value("prediction"))) &&
      (value("outcome") === "" || isRight(index) === (value("outcome") === "right")) &&
      (value("device") === "" || cycles.device[index] === value("device")) &&
      // What was not measured is in no range.
      (from === "" || (quality !== null && quality >= Number(from))) &&
      (to === "" || (quality !== null && quality <= Number(to))) &&
      (!form.elements.sound || !form.elements.sound.checked || media[index] !== null)
    );
  }

  function makeRow(index) {
    const outcome = isRight(index) ? "right" : "wrong";
    const about = [`quality ${two(runs[run].quality[index])}`, cycles.device[index], cycles.id[index]];
    const row = element(
      "div",
      { id: `cycle-${index}`, className: "row" },
      element(
        "div",
        { className: outcome },
        element("span", { className: "mark", textContent: isRight(index) ? "✓" : "✗", ariaHidden: "true" }),
        element("span", { className: "what", textContent: verdict(index) }),
        element("span", { className: "percent", textContent: two(confidence(index)) }),
      ),
      element(
        "div",
        {},
        element("small", { textContent: about.join(" · ") }),
        element("span", { textContent: media[index] ? "♪" : "", title: "with sound" }),
      ),
    );
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", index === chosen);
    row.dataset.index = index;
    return row;
  }

  function refresh() {
    run = Number(value("run") || 0);
    const key = orders[value("order")];
    const keys = indices.map((index) => key(index));
    shown = indices.filter(passes).sort((a, b) => keys[a] - keys[b] || a - b);
    list.replaceChildren(...shown.map(makeRow));
    list.scrollTop = 0;
    const wrong = shown.filter((index) => !isRight(index)).length;
    find("#count").textContent =
      `${shown.length.toLocaleString("en")} of ${indices.length.toLocaleString("en")} cycles, ` +
      `${wrong.toLocaleString("en")} of them called wrongly`;
    for (const map of maps) {
      map.show();
    }
    if (shown.length === 0) {
      choose(null);
    } else {
      choose(shown.includes(chosen) ? chosen : shown[0]);
    }
  }

  function choose(index) {
    const before = find('.row[aria-selected="true"]');
    if (before) {
      before.setAttribute("aria-selected", "false");
    }
    const changed = index !== chosen;
    chosen = index;
    list.removeAttribute("aria-activedescendant");
    find("#cycle").hidden = index === null;
    for (const map of maps) {
      map.ring(index);
    }
    if (index === null) {
      player.pause();
      return;
    }
    const row = document.getElementById(`cycle-${index}`);
    if (row) {
      row.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", row.id);
      // Not scrollIntoView, which would move the page, too.
      const [top, bottom] = [row.offsetTop - list.offsetTop, row.offsetTop - list.offsetTop + row.offsetHeight];
      if (top < list.scrollTop) {
        list.scrollTop = top;
      } else if (bottom > list.scrollTop + list.clientHeight) {
        list.scrollTop = bottom - list.clientHeight;
      }
    }
    describe(index, changed);
  }

  // The chosen cycle
  function describe(index, changed) {
    find("#cycle-name").textContent = cycles.id[index];
    const text = find("#cycle-verdict");
    text.className = `verdict ${isRight(index) ? "right" : "wrong"}`;
    text.textContent = `${isRight(index) ? "✓" : "✗"} ${verdict(index)} (${two(confidence(index))})`;
    if (changed) {
      present(index);
    }
    find("#probabilities").replaceChildren(...runs.map((_, of) => bars(index, of)));
    const about = find("#about");
    about.replaceChildren();
    const span = spans[index];
    const facts = {
      Recording: cycles.recording[index] + (span ? `, ${span[0].toFixed(2)} to ${span[1].toFixed(2)} s` : ""),
      Patient: cycles.patient[index],
      Device: cycles.device[index],
      Age: cycles.age[index] + (cycles.age[index] === "unknown" ? "" : " years"),
      Sex: cycles.sex[index],
      Location: cycles.location[index],
    };
    for (const [name, fact] of Object.entries(facts)) {
      about.append(element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: fact })));
    }
  }

  function bars(index, of) {
    const outcome = isRight(index, of) ? "✓" : "✗";
    const rows = labels.map((label, code) => {
      const share = runs[of].probabilities[index][code];
      const isTruth = code === cycles.label[index];
      const bar = element("i");
      bar.style.width = `${100 * share}%`;
      return element(
        "div",
        { className: `probability${isTruth ? " truth" : ""}` },
        element("span", { textContent: label + (isTruth ? " (truth)" : "") }),
        element("span", {}, bar),
        element("span", { textContent: two(share) }),
      );
    });
    return element(
      "div",
      {},
      element("h4", { textContent: `${outcome} ${runs[of].name}: quality ${two(runs[of].quality[index])}` }),
      ...rows,
    );
  }

  function present(index) {
    const what = media[index];
    player.pause();
    if (sound) {
      URL.revokeObjectURL(sound);
      sound = null;
    }
    find("#spectrogram").hidden = player.hidden = !what;
    if (!what) {
      player.removeAttribute("src");
      find("#sound-note").textContent = "The sound of this cycle is not in this page.";
      return;
    }
    const bytes = Uint8Array.from(atob(what.sound), (letter) => letter.charCodeAt(0));
    sound = URL.createObjectURL(new Blob([bytes], { type: "audio/mpeg" }));
    player.src = sound;
    player.setAttribute("aria-label", `Sound of ${cycles.id[index]}`);
    find("#sound-note").textContent = `Made louder by ${what.gain.toFixed(0)} dB.`;
    const image = find("#spectrogram img");
    image.src = `data:image/webp;base64,${what.picture}`;
    image.alt = `Log-mel spectrogram of ${cycles.id[index]}`;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20];
    const step = steps.find((size) => what.duration / size <= 6) ?? 60;
    const times = [];
    for (let count = 0; count * step <= what.duration; count++) {
      const tick = element("span", { textContent: String(Number((count * step).toFixed(1))) });
      tick.style.left = `${(100 * count * step) / what.duration}%`;
      times.push(tick);
    }
    find(".times").replaceChildren(...times);
    movePlayhead();
  }

  function movePlayhead() {
    const duration = chosen !== null && media[chosen] ? media[chosen].duration : 1;
    find(".playhead").style.left = `${Math.min(100, (100 * player.currentTime) / duration)}%`;
    if (!player.paused) {
      requestAnimationFrame(movePlayhead);
    }
  }

  function togglePlay() {
    if (player.hidden || !player.src) {
      return;
    }
    if (player.paused) {
      player.play().catch((error) => {
        // Whoever pauses before the sound begins aborts it.
        if (error.name !== "AbortError") {
          find("#sound-note").textContent = `It cannot be played: ${error.message}`;
        }
      });
    } else {
      player.pause();
    }
  }

  // The maps
  class EmbeddingMap {
    constructor(figure) {
      this.of = runs.findIndex((one) => one.name === figure.dataset.run);
      this.places = runs[this.of].map;
      this.svg = drawn("svg", {
        viewBox: "-30 -30 1060 1060",
        tabindex: 0,
        role: "application",
        "aria-label": `Map of the cycles, ${runs[this.of].name}`,
        "aria-describedby": "map-keys",
      });
      this.dots = this.places.map((place, index) => {
        if (!place) {
          return null;
        }
        const color = colors[cycles.label[index] % colors.length];
        const dot = drawn("path", {
          d: shapeOf(cycles.device[index]),
          class: isRight(index, this.of) ? "dot" : "dot wrong",
          fill: color,
          stroke: color,
          transform: `translate(${1000 * place[0]} ${1000 * (1 - place[1])}) scale(11)`,
        });
        this.svg.append(dot);
        return dot;
      });
      this.circle = drawn("circle", { class: "ring", r: 20, visibility: "hidden" });
      this.svg.append(this.circle);
      figure.append(this.svg);
      this.svg.addEventListener("pointermove", (event) => this.point(this.nearest(event)));
      this.svg.addEventListener("click", (event) => this.open(this.nearest(event)));
      this.svg.addEventListener("pointerleave", () => this.ring(chosen));
      this.svg.addEventListener("keydown", (event) => this.key(event));
    }

    show() {
      const here = new Set(shown);
      this.dots.forEach((dot, index) => dot && dot.classList.toggle("out", !here.has(index)));
    }

    ring(index) {
      this.at = index;
      const place = index === null ? null : this.places[index];
      this.circle.setAttribute("visibility", place ? "visible" : "hidden");
      if (place) {
        this.circle.setAttribute("cx", 1000 * place[0]);
        this.circle.setAttribute("cy", 1000 * (1 - place[1]));
      }
    }

    point(index) {
      if (index === null) {
        return;
      }
      maps.forEach((map) => map.ring(index));
      const said = runs.map((one, of) => `${one.name} says ${labels[called(index, of)]} (${two(confidence(index, of))})`);
      pointed.textContent = `${cycles.id[index]}, ${cycles.device[index]}: ${labels[cycles.label[index]]}; ${said.join(", ")}`;
    }

    nearest(event) {
      const box = this.svg.getBoundingClientRect();
      const x = (1060 * (event.clientX - box.left)) / box.width - 30;
      const y = (1060 * (event.clientY - box.top)) / box.height - 30;
      let [best, least] = [null, 60 ** 2];
      for (const index of shown) {
        const place = this.places[index];
        const distance = place ? (1000 * place[0] - x) ** 2 + (1000 * (1 - place[1]) - y) ** 2 : Infinity;
        if (distance < least) {
          [best, least] = [index, distance];
        }
      }
      return best;
    }

    open(index) {
      if (index === null) {
        return;
      }
      this.point(index);
      choose(index);
      list.focus({ preventScroll: true });
      find("#cycle").scrollIntoView({ block: "nearest" });
    }

    key(event) {
      const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (event.key === "Enter" && this.at !== null) {
        this.open(this.at);
      } else if (event.key in ways) {
        event.preventDefault();
        const [dx, dy] = ways[event.key];
        const from = this.at === null || !this.places[this.at] ? [0.5, 0.5] : this.places[this.at];
        let [best, least] = [null, Infinity];
        for (const index of shown) {
          if (!this.places[index] || index === this.at) {
            continue;
          }
          const [x, y] = [this.places[index][0] - from[0], this.places[index][1] - from[1]];
          const along = x * dx + y * dy;
          const aside = Math.abs(x * dy) + Math.abs(y * dx);
          if (along > 0 && aside <= along && x * x + y * y < least) {
            [best, least] = [index, x * x + y * y];
          }
        }
        this.point(best);
      }
    }
  }

  function drawLegend() {
    const entry = (shape, color, text, hollow) => {
      const icon = drawn("svg", { viewBox: "-1.3 -1.3 2.6 2.6", "aria-hidden": "true" });
      const style = { class: hollow ? "dot wrong" : "dot", fill: color, stroke: color };
      icon.append(drawn("path", { d: shape, ...style }));
      find("#legend").append(element("span", {}, icon, text));
    };
    const present = new Set(cycles.label);
    labels.forEach((label, code) => present.has(code) && entry(shapes[2], colors[code % colors.length], label));
    devices.forEach((device) => entry(shapeOf(device), "currentColor", device));
    entry(shapes[0], "currentColor", "hollow: called wrongly", true);
  }

  const maps = [...document.querySelectorAll(".map")].map((figure) => new EmbeddingMap(figure));
  if (maps.length) {
    drawLegend();
  }
  find(".frequencies").append(
    ...data.frequencies.map(([frequency, height]) => {
      const text = frequency < 1000 ? `${frequency} Hz` : `${frequency / 1000} kHz`;
      const tick = element("span", { textContent: text });
      tick.style.bottom = `${100 * height}%`;
      return tick;
    }),
  );

  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(refresh));
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) {
      choose(Number(row.dataset.index));
    }
  });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const place = shown.indexOf(chosen);
    const page = Math.max(1, Math.floor(list.clientHeight / 60));
    const places = {
      ArrowDown: place + 1,
      j: place + 1,
      ArrowUp: place - 1,
      k: place - 1,
      PageDown: place + page,
      PageUp: place - page,
      Home: 0,
      End: shown.length - 1,
    };
    if (event.key in places && shown.length) {
      choose(shown[Math.min(Math.max(places[event.key], 0), shown.length - 1)]);
    } else if (event.key === " ") {
      togglePlay();
    } else {
      return;
    }
    event.preventDefault();
  });
  player.addEventListener("play", movePlayhead);
  for (const happened of ["seeked", "ended", "timeupdate"]) {
    player.addEventListener(happened, movePlayhead);
  }
  refresh();
})();
