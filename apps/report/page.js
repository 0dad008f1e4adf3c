
// The figures of the report, from the numbers in #data.

const data = JSON.parse(document.getElementById("data").textContent);
const layers = data.layers;
const domains = data.sample.domains.map((domain) => domain.name);
const numbered = (count) => Array.from({ length: count }, (_, i) => String(i));
const place = (name) => document.querySelector(`[data-figure="${name}"]`);

// What the layer buttons change: functions that draw the chosen layer.
let chosen = 0;
const onLayer = [];

function choose(index) {
  chosen = index;
  for (const redraw of onLayer) {
    redraw();
  }
}

/// Buttons of which one is pressed.
function toggles(names, label, pick) {
  const buttons = names.map((name, i) => {
    const button = element("button", { type: "button", "aria-pressed": String(i === 0) }, name);
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      pick(i);
    });
    return button;
  });
  return element("div", { class: "buttons", role: "group", "aria-label": label }, ...buttons);
}

function addLayerButtons() {
  const buttons = toggles(layers.map((layer) => String(layer.layer)), "Layer", choose);
  const bar = element("nav", { class: "layers", "aria-label": "Layer of the figures below" }, element("span", {}, "Layer"), buttons);
  document.getElementById("domains").before(bar);
}

/// log2 of load to mean, a quarter to four times the mean as -1 to 1.
function balance(relative) {
  return relative > 0 ? Math.log2(relative) / 2 : -1;
}

function times(relative) {
  return `${Number(relative.toPrecision(2))} ×`;
}

function addLoad() {
  const relative = (r, c) => layers[r].load[c] * layers[r].load.length;
  const experts = Math.max(...layers.map((layer) => layer.load.length));
  addFigure(
    place("load"),
    "Load of every expert",
    "Each cell is an expert's share of its layer's tokens, against the mean. Good: no strong colours. Bad: a strong orange cell does most of the work, a strong blue one hardly any, and a cross marks an expert without use.",
    (width, say) => heatMap(width, say, {
      rows: layers.map((layer) => String(layer.layer)),
      columns: numbered(experts),
      rowTitle: "layer",
      columnTitle: "expert",
      colour: (r, c) => (c < layers[r].load.length ? balanceColour(balance(relative(r, c))) : ""),
      number: (r, c) => relative(r, c).toFixed(1),
      onDark: (r, c) => (Math.abs(balance(relative(r, c))) > 0.6 ? "on-strong" : ""),
      mark: (r, c) => relative(r, c) < 0.01,
      describe: (r, c) => (c < layers[r].load.length
        ? `Layer ${layers[r].layer}, expert ${c}: ${times(relative(r, c))} the mean load, ${percent(layers[r].load[c])} of the choices.`
        : `Layer ${layers[r].layer} has no expert ${c}.`),
    }),
    rampLegend("balance", "¼ of the mean", "", "4 × the mean"));
}

/// Bits per layer as dots, the range of chance as bars.
function addSpecialisation() {
  const bits = (layer) => layer.specialisation.bits;
  const most = Math.max(...layers.map((layer) => Math.max(bits(layer), layer.specialisation.chance_95)), 1e-6) * 1.08;
  const swatch = (colour, text) => {
    const box = element("span", { class: "swatch" });
    box.style.background = colour;
    return element("span", {}, box, text);
  };
  addFigure(
    place("specialisation"),
    "How much an expert tells of the domain",
    "The dot is the information that an expert gives about a token's domain, in bits. The bar is what chance gives: up to 95 % of shuffles, the line is their mean. Dots within their bars say nothing; far to the right of them, experts divide the domains among themselves.",
    (width, say) => {
      const [left, right, top] = [52, 16, 6];
      const step = clamp(420 / layers.length, 9, 26);
      const height = top + layers.length * step + 26;
      const x = (value) => left + value / most * (width - left - right);
      const svg = shape("svg", { viewBox: `0 0 ${width} ${height}` });
      const every = labelStep(layers.length, step, 14);
      for (const tick of ticks(0, most, Math.max(2, Math.floor(width / 110)))) {
        svg.append(shape("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: height - 24 }));
        svg.append(shape("text", { x: x(tick), y: height - 8, "text-anchor": "middle" }, short(Number(tick.toPrecision(6)))));
      }
      svg.append(shape("text", { x: left - 8, y: height - 8, "text-anchor": "end" }, "bits"));
      layers.forEach((layer, i) => {
        const y = top + (i + 0.5) * step;
        const { chance_mean: mean, chance_95: chance } = layer.specialisation;
        if (i % every === 0) {
          svg.append(shape("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, i === 0 ? `layer ${layer.layer}` : String(layer.layer)));
        }
        const thick = Math.min(step * 0.5, 10);
        const bar = shape("rect", { x: x(0), y: y - thick / 2, width: x(chance) - x(0), height: thick });
        bar.style.fill = "var(--rule)";
        const line = shape("line", { x1: x(mean), x2: x(mean), y1: y - thick / 2, y2: y + thick / 2 });
        line.style.stroke = "var(--muted)";
        const dot = shape("circle", { cx: x(bits(layer)), cy: y, r: Math.min(step * 0.3, 5.5) });
        dot.style.fill = "var(--accent)";
        svg.append(bar, line, dot);
      });
      const cursor = shape("rect", { class: "cursor", x: left - 4, width: width - left - right + 8, height: step, visibility: "hidden" });
      svg.append(cursor);
      const move = gridKeys(svg, layers.length, 1, (r) => {
        const one = layers[r].specialisation;
        cursor.setAttribute("y", top + r * step);
        cursor.setAttribute("visibility", "visible");
        say(`Layer ${layers[r].layer}: ${one.bits.toFixed(3)} bits, ${percent(one.share)} of the most possible; chance ${one.chance_mean.toFixed(3)} on average, ${one.chance_95.toFixed(3)} at 95 %.`);
      });
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        move(Math.floor(((event.clientY - box.top) * height / box.height - top) / step), 0);
      });
      return svg;
    },
    element("div", { class: "legend" }, swatch("var(--accent)", "measured"), swatch("var(--rule)", "chance, up to 95 %")));
}

function addDomains() {
  const redraw = addFigure(
    place("domains"),
    "Domains and experts of the chosen layer",
    "Each row says how a domain's tokens divide among the experts, and sums to 100 %. Rows that look alike: the experts do not care about domains. A strong cell in one row only: a specialist.",
    (width, say) => {
      const layer = layers[chosen];
      const most = Math.max(...layer.domains.flat(), 1e-9);
      return heatMap(width, say, {
        rows: domains,
        columns: numbered(layer.load.length),
        rowTitle: "domain",
        columnTitle: `expert of layer ${layer.layer}`,
        colour: (r, c) => heatColour(layer.domains[r][c] / most),
        number: (r, c) => String(Math.round(layer.domains[r][c] * 100)),
        onDark: (r, c) => (layer.domains[r][c] / most > 0.55 ? "on-heat" : ""),
        describe: (r, c) => `Layer ${layer.layer}: expert ${c} gets ${percent(layer.domains[r][c])} of ${domains[r]}, and ${percent(layer.load[c])} of all text.`,
      });
    },
    rampLegend("heat", "0 %", "", "the most in this layer"));
  onLayer.push(redraw);
}

/// The domain that an expert serves most, against what other domains give it.
function mainDomain(layer, expert) {
  const shares = layer.domains.map((row) => row[expert]);
  const sum = shares.reduce((a, b) => a + b, 0);
  const best = shares.indexOf(Math.max(...shares));
  return sum > 0 ? { name: domains[best], share: shares[best] / sum } : null;
}

function likedTokens(liked) {
  const list = element("ul", { class: "chips" });
  const most = Math.max(...liked.map((token) => token[1]), 1);
  for (const [text, lift, count, occurrences] of liked) {
    const chip = element(
      "li",
      { title: `${count} of ${occurrences} times, ${lift} times as often as any token` },
      element("bdi", {}, text),
      element("small", {}, `${lift.toPrecision(2)}×`));
    chip.style.background = `color-mix(in oklab, var(--heat-1) ${(12 + 33 * lift / most).toFixed(0)}%, var(--paper))`;
    list.append(chip);
  }
  return liked.length > 0 ? list : element("p", { class: "about" }, "No token often enough.");
}

function addTokens() {
  const list = element("ul", { class: "experts" });
  const sentence = element("p", {});
  const figure = element("figure", {}, element("figcaption", {}, element("h3", {}, "Favourite tokens"), sentence), list);
  place("tokens").append(figure);
  const draw = () => {
    const layer = layers[chosen];
    sentence.textContent = `The tokens that choose each expert of layer ${layer.layer} more often than others do; 2× is twice as often. Good: tokens of a kind. Bad: the same tokens everywhere, or none. ␣ is a space, ↵ a line end.`;
    const many = layer.load.length > 24;
    list.classList.toggle("many", many);
    list.setAttribute("tabindex", many ? "0" : "-1");
    list.replaceChildren(...layer.tokens.map((liked, expert) => {
      const main = domains.length > 1 ? mainDomain(layer, expert) : null;
      const about = `${percent(layer.load[expert])} of the choices${main ? `; ${percent(main.share)} of its work is ${main.name}` : ""}`;
      return element("li", {}, element("h3", {}, `Expert ${expert}`), element("p", { class: "about" }, about), likedTokens(liked));
    }));
  };
  draw();
  onLayer.push(draw);
}

function addPairs() {
  if (layers.every((layer) => layer.experts_per_token < 2 || layer.load.length < 3)) {
    document.getElementById("pairs").hidden = true;
    return;
  }
  const ratio = (pairs, r, c) => (r > c ? pairs.log2_ratio[r][c] : pairs.log2_ratio[c][r]);
  const redraw = addFigure(
    place("pairs"),
    "Pairs of experts in the chosen layer",
    "Orange pairs serve the same tokens more often than independent choices would, blue ones less often. No colours: each expert works with all others alike. A few strong pairs are a division of labour; two experts that are always together do the work of one.",
    (width, say) => {
      const { pairs, layer } = layers[chosen];
      const names = pairs.experts.map(String);
      return heatMap(width, say, {
        rows: names,
        columns: names,
        rowTitle: "expert",
        columnTitle: `expert of layer ${layer}`,
        square: true,
        colour: (r, c) => (r === c ? "" : balanceColour(ratio(pairs, r, c) / 2)),
        describe: (r, c) => (r === c
          ? `Expert ${names[r]}: a token chooses an expert once.`
          : `Experts ${names[r]} and ${names[c]}: together ${times(2 ** ratio(pairs, r, c))} as often as by chance.`),
      });
    },
    rampLegend("balance", "¼ of chance", layers[0].load.length > 48 ? "the 48 busiest experts" : "", "4 × chance"));
  onLayer.push(redraw);
}

/// A colour for each of the eight experts that come first most often; the others share one.
function expertColours(index) {
  const counts = new Map();
  const experts = layers[index].load.length;
  if (experts <= 8) {
    return new Map(numbered(experts).map((_, i) => [i, `var(--c${i})`]));
  }
  for (const text of data.texts) {
    const { experts: all } = text.layers[index];
    for (let i = 0; i < all.length; i += layers[index].experts_per_token) {
      counts.set(all[i], (counts.get(all[i]) ?? 0) + 1);
    }
  }
  const busiest = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 8).map(([expert]) => expert);
  return new Map(busiest.sort((a, b) => a - b).map((expert, i) => [expert, `var(--c${i})`]));
}

function tint(colour, share = 1) {
  return `color-mix(in oklab, ${colour} calc(var(--tint) * ${share.toFixed(2)}), transparent)`;
}

/// Who serves token `t` of a text, layer by layer.
function tokenDetail(text, t) {
  const all = element("div", { class: "all" });
  text.layers.forEach((layer, index) => {
    const per = layers[index].experts_per_token;
    const colours = expertColours(index);
    const block = element("div", { class: "layer" }, element("div", { class: "name" }, `Layer ${layers[index].layer}`));
    for (let i = t * per; i < (t + 1) * per; ++i) {
      if (layer.experts[i] < 0) {
        continue;
      }
      const fill = element("span", { class: "fill" });
      fill.style.width = `${clamp(layer.weights[i], 0, 100) * 0.5}%`;
      fill.style.background = colours.get(layer.experts[i]) ?? "var(--none)";
      block.append(element("div", { class: "bar" }, element("span", {}, `${layer.experts[i]} · ${layer.weights[i]} %`), fill));
    }
    // The chosen layer first, where it would be far down.
    if (index === chosen && layers.length > 8) {
      all.prepend(block);
    } else {
      all.append(block);
    }
  });
  const shown = text.tokens[t].replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");
  return [element("h3", { dir: "auto" }, shown || "part of the next character"), all];
}

function addText() {
  const holder = place("text");
  const sentence = element("p", {}, "Every token has the colour of the expert that weighs most in the chosen layer. Point at a token, or move with the arrow keys, to see its experts in all layers and their weights.");
  const passages = element("div", { id: "passages", role: "tabpanel", tabindex: "-1" });
  const detail = element("aside", { class: "detail", "aria-live": "polite", "aria-label": "Experts of the token" });
  const legend = element("div", { class: "buttons wrap", role: "group", "aria-label": "Show one expert" });
  const used = domains.map((_, i) => i).filter((i) => data.texts.some((text) => text.domain === i));
  const tabs = used.map((i, n) => element("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "passages", "aria-selected": String(n === 0), tabindex: n === 0 ? "0" : "-1" }, domains[i]));
  let domain = used[0];
  let only = null;
  let tokens = [];
  let current = 0;

  const show = (index, focus) => {
    tokens[current]?.node.classList.remove("current");
    tokens[current]?.node.setAttribute("tabindex", "-1");
    current = clamp(index, 0, tokens.length - 1);
    const { node, text, t } = tokens[current];
    node.classList.add("current");
    node.setAttribute("tabindex", "0");
    detail.replaceChildren(...tokenDetail(text, t));
    if (focus) {
      node.focus({ preventScroll: false });
    }
  };

  const paint = () => {
    const colours = expertColours(chosen);
    const per = layers[chosen].experts_per_token;
    for (const { node, text, t } of tokens) {
      const { experts, weights } = text.layers[chosen];
      const rank = only === null ? 0 : experts.slice(t * per, (t + 1) * per).indexOf(only);
      const expert = experts[t * per + rank];
      const colour = colours.get(expert) ?? "var(--none)";
      const share = only === null ? 1 : 0.4 + weights[t * per + rank] / 60;
      node.style.background = rank < 0 ? "transparent" : tint(colour, share);
      node.style.borderBottomColor = rank < 0 ? "transparent" : colour;
    }
  };

  const drawLegend = () => {
    const colours = expertColours(chosen);
    const pick = (expert, button) => {
      only = only === expert ? null : expert;
      for (const other of legend.children) {
        other.setAttribute("aria-pressed", String(other === button && only !== null));
      }
      paint();
    };
    legend.replaceChildren(...[...colours].map(([expert, colour]) => {
      const button = element("button", { type: "button", "aria-pressed": "false" }, `Expert ${expert}`);
      button.style.borderBottom = `4px solid ${colour}`;
      button.addEventListener("click", () => pick(expert, button));
      return button;
    }));
  };

  const drawPassages = () => {
    tokens = [];
    passages.replaceChildren(...data.texts.filter((text) => text.domain === domain).map((text) => {
      const passage = element("p", { class: "passage", dir: "auto" });
      text.tokens.forEach((shown, t) => {
        const node = element("span", { class: shown ? "token" : "token part", tabindex: "-1" }, shown);
        const index = tokens.length;
        node.addEventListener("pointerenter", () => show(index, false));
        node.addEventListener("focus", () => show(index, false));
        tokens.push({ node, text, t });
        passage.append(node);
      });
      return passage;
    }));
    current = 0;
    paint();
    show(0, false);
    tokens[0].node.classList.remove("current");
  };

  const select = (n) => {
    domain = used[n];
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === n));
      tab.setAttribute("tabindex", i === n ? "0" : "-1");
    });
    passages.setAttribute("aria-labelledby", tabs[n].id);
    drawPassages();
  };

  tabs.forEach((tab, n) => {
    tab.addEventListener("click", () => select(n));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        const next = (n + step + tabs.length) % tabs.length;
        select(next);
        tabs[next].focus();
      }
    });
  });
  passages.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 }[event.key];
    if (step) {
      event.preventDefault();
      show(current + step, true);
    }
  });
  holder.append(
    element("figcaption", {}, sentence),
    element("div", { class: "buttons wrap", role: "tablist", "aria-label": "Domain" }, ...tabs),
    element("div", { class: "legend" }, "Colours; press one to see only it:", legend),
    element("div", { class: "reader" }, element("div", {}, passages), detail));
  select(0);
  drawLegend();
  onLayer.push(() => {
    only = null;
    drawLegend();
    paint();
  });
}

// What the keys of metrics.jsonl mean: title, and what is good and bad.
const CURVES = {
  loss: ["Loss", "Nats per token. Should fall; validation (dots) well above it is learning by heart."],
  lr: ["Learning rate", "As the schedule set it."],
  load_balancing_loss: ["Load balancing loss", "1 is perfect balance; it should stay near."],
  router_z_loss: ["Router z-loss", "Size of the router's logits. Should not grow without end."],
  grad_norm: ["Gradient norm", "Before clipping. Single peaks are harmless, a rise is not."],
  tokens_per_s: ["Tokens per second", "Speed of training."],
};
const LAYER_CURVES = {
  entropy: ["Evenness", "Entropy of the loads; 1 is even. Weak colours mean that few experts do the work."],
  max_violation: ["Overload", "How far the busiest expert is above the mean load; 0 is even."],
  dead: ["Unused experts", "Share of experts below 1 % of the mean load; 0 is good."],
  confidence: ["Confidence", "The router's highest probability, on average. Close to 1 it learns no more."],
  dropped: ["Dropped", "Share of choices dropped for want of capacity."],
  churn: ["Churn", "Share of choices that changed since the evaluation before. Should fall."],
  similarity: ["Similarity", "Cosine between experts' outputs. Near 1 the experts are copies."],
};
const UNPLOTTED = ["tokens", "val_loss", "rows"];

function hasNumbers(values) {
  return values.some((value) => value !== null);
}

function addCurves(history) {
  for (const [key, values] of Object.entries(history.curves)) {
    if (UNPLOTTED.includes(key) || !hasNumbers(values)) {
      continue;
    }
    const [title, sentence] = CURVES[key] ?? [key, "As recorded in metrics.jsonl."];
    const series = [{ name: key === "loss" ? "training" : title.toLowerCase(), values, colour: "var(--accent)" }];
    if (key === "loss" && hasNumbers(history.curves.val_loss ?? [])) {
      series.push({ name: "validation", values: history.curves.val_loss, colour: "var(--above)" });
    }
    addFigure(place("curves"), title, sentence, (width, say) => curves(width, say, history.steps, series));
  }
}

function addLayerCurves(history) {
  const keys = [...new Set(history.layers.flatMap((layer) => Object.keys(layer.curves)))]
    .filter((key) => !UNPLOTTED.includes(key) && history.layers.some((layer) => hasNumbers(layer.curves[key] ?? [])));
  if (keys.length === 0) {
    return;
  }
  const holder = place("layer-curves");
  const figures = element("div", {});
  const draw = (key) => {
    const [title, sentence] = LAYER_CURVES[key] ?? [key, "As recorded in metrics.jsonl."];
    // Steps of which the key is known; churn and the like belong to evaluations only.
    const known = history.steps.map((_, i) => i).filter((i) => history.layers.some((layer) => (layer.curves[key]?.[i] ?? null) !== null));
    const value = (r, c) => history.layers[r].curves[key]?.[known[c]] ?? null;
    const all = history.layers.flatMap((layer) => (layer.curves[key] ?? []).filter((one) => one !== null));
    const [low, high] = [Math.min(...all), Math.max(...all)];
    figures.replaceChildren();
    addFigure(
      figures,
      `${title} of each layer over time`,
      sentence,
      (width, say) => heatMap(width, say, {
        rows: history.layers.map((layer) => String(layer.layer)),
        columns: known.map((i) => String(history.steps[i])),
        rowTitle: "layer",
        columnTitle: "step",
        colour: (r, c) => (value(r, c) === null ? "" : heatColour(high > low ? (value(r, c) - low) / (high - low) : 0.3)),
        describe: (r, c) => `Layer ${history.layers[r].layer}, step ${history.steps[known[c]]}: ${title.toLowerCase()} ${short(value(r, c))}.`,
      }),
      rampLegend("heat", short(low), "", short(high)));
  };
  const names = keys.map((key) => (LAYER_CURVES[key] ?? [key])[0]);
  const buttons = toggles(names, "Quantity", (i) => draw(keys[i]));
  buttons.classList.add("wrap");
  holder.append(buttons, figures);
  draw(keys[0]);
}

function addLoadHistory(history) {
  const loads = new Map(history.layers.filter((layer) => layer.load).map((layer) => [layer.layer, layer.load]));
  if (loads.size === 0) {
    return;
  }
  const redraw = addFigure(
    place("load-history"),
    "Load of the chosen layer's experts over training",
    "Each row is an expert, time runs to the right. Good: no strong colours after the first steps. Bad: a row that turns blue and stays so is an expert that died, one that stays orange took over its work.",
    (width, say) => {
      const load = loads.get(layers[chosen].layer) ?? [...loads.values()][0];
      return heatMap(width, say, {
        rows: numbered(load[0].length),
        columns: history.load_steps.map(String),
        rowTitle: "expert",
        columnTitle: `step, layer ${layers[chosen].layer}`,
        colour: (r, c) => (load[c][r] === null ? "" : balanceColour(balance(load[c][r]))),
        describe: (r, c) => `Step ${history.load_steps[c]}, expert ${r}: ${load[c][r] === null ? "unknown" : times(load[c][r])} the mean load.`,
      });
    },
    rampLegend("balance", "¼ of the mean", "", "4 × the mean"));
  onLayer.push(redraw);
}

addLoad();
addLayerButtons();
if (domains.length > 1) {
  addSpecialisation();
  addDomains();
} else {
  document.getElementById("domains").hidden = true;
}
addTokens();
addPairs();
addText();
if (data.training) {
  document.getElementById("training").hidden = false;
  addCurves(data.training);
  addLayerCurves(data.training);
  addLoadHistory(data.training);
}
document.documentElement.dataset.drawn = "yes";
