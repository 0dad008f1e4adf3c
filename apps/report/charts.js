"use strict";

// Heat maps and curves as SVG. Colours are CSS variables, so light, dark and paper need no
// script. Text is only ever set as text: nothing that comes from a file becomes markup.

const SVG = "http://www.w3.org/2000/svg";
// Below the first figure only: the others work alike.
let hint = "Point at a cell for its numbers, or focus the figure and use the arrow keys. All figures work so.";

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function shape(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, value);
  }
  node.textContent = text;
  return node;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/// 0 to 1 as little to much.
function heatColour(share) {
  const t = clamp(share, 0, 1) * 2;
  const [from, to] = t < 1 ? ["--heat-0", "--heat-1"] : ["--heat-1", "--heat-2"];
  return `color-mix(in oklab, var(${to}) ${((t < 1 ? t : t - 1) * 100).toFixed(1)}%, var(${from}))`;
}

/// -1 to 1 as below to above.
function balanceColour(value) {
  const t = clamp(value, -1, 1);
  return `color-mix(in oklab, var(${t < 0 ? "--below" : "--above"}) ${(Math.abs(t) * 100).toFixed(1)}%, var(--even))`;
}

/// Three digits: 1234567 is 1.23M, 0.00123 is 0.00123.
function short(value) {
  if (value === null || value === undefined) {
    return "unknown";
  }
  const size = Math.abs(value);
  if (size >= 1e6) {
    return `${Number((value / 1e6).toPrecision(3))}M`;
  }
  if (size >= 1e4) {
    return `${Number((value / 1e3).toPrecision(3))}k`;
  }
  return size !== 0 && size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

function percent(share) {
  return `${Number((share * 100).toPrecision(share < 0.1 ? 2 : 3))} %`;
}

/// A figure with a title and a sentence, drawn anew whenever its width changes.
/// `draw(width, say)` returns the drawing; `say` writes the line below it.
function addFigure(parent, title, sentence, draw, legend = null) {
  const plot = element("div", { class: "plot" });
  const readout = element("p", { class: "readout", "aria-live": "polite" }, hint);
  hint = "";
  const figure = element(
    "figure", {},
    element("figcaption", {}, element("h3", {}, title), element("p", {}, sentence)),
    plot);
  if (legend) {
    figure.append(legend);
  }
  figure.append(readout);
  parent.append(figure);
  let drawn = 0;
  const redraw = (width) => {
    drawn = width;
    const svg = draw(Math.max(width, 240), (text) => { readout.textContent = text; });
    svg.setAttribute("aria-label", `${title}. ${sentence}`);
    plot.replaceChildren(svg);
  };
  redraw(plot.clientWidth || 640);
  // In the next frame: drawing changes sizes, which an observer must not do while it looks.
  new ResizeObserver(() => requestAnimationFrame(() => {
    const width = plot.clientWidth;
    if (width > 0 && Math.abs(width - drawn) > 1) {
      redraw(width);
    }
  })).observe(plot);
  return () => redraw(drawn);
}

function rampLegend(kind, low, middle, high) {
  const scale = element("span", { class: "scale" }, low, element("span", { class: `ramp ${kind}` }), high);
  return element("div", { class: "legend" }, scale, ...(middle ? [middle] : []));
}

/// How many of `count` labels to skip so that they stay `least` apart.
function labelStep(count, size, least) {
  const steps = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200, 256, 500, 1000];
  return steps.find((step) => step * size >= least) ?? count;
}

function fitLabel(text, width) {
  const letters = Math.floor(width / 7);
  const all = Array.from(text);
  return all.length <= letters ? text : `${all.slice(0, Math.max(letters - 1, 1)).join("")}…`;
}

/// Where pointing and arrow keys in a grid lead: calls `go(row, column)`.
function gridKeys(svg, rows, columns, go) {
  let row = 0;
  let column = 0;
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "img");
  const move = (r, c) => {
    row = clamp(r, 0, rows - 1);
    column = clamp(c, 0, columns - 1);
    go(row, column);
  };
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  svg.addEventListener("keydown", (event) => {
    if (steps[event.key]) {
      event.preventDefault();
      move(row + steps[event.key][0], column + steps[event.key][1]);
    }
  });
  svg.addEventListener("focus", () => move(row, column));
  return move;
}

/// Rows and columns of coloured cells. `map` has `rows` and `columns` (labels), `rowTitle`,
/// `columnTitle`, `colour(r, c)` ("" for none), `describe(r, c)`, and perhaps `number(r, c)`
/// with `onDark(r, c)` naming the class of text on strong colours, `mark(r, c)` for a cross,
/// `square`, `aspect`.
function heatMap(width, say, map) {
  const rows = map.rows.length;
  const columns = map.columns.length;
  const longest = Math.max(map.rowTitle.length, ...map.rows.map((label) => Array.from(label).length));
  const left = clamp(longest * 7 + 10, 28, Math.min(130, width * 0.3));
  const limit = map.square ? Math.min(width - left, 560) : width - left;
  const cellWidth = Math.min(limit / columns, map.square ? 44 : 96);
  const cellHeight = map.square ? cellWidth : clamp(420 / rows, 5, 30);
  const gap = Math.min(cellWidth, cellHeight) > 9 ? 1 : 0;
  const top = 34;
  const height = top + rows * cellHeight + 2;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}` });
  const rowStep = labelStep(rows, cellHeight, 14);
  const columnLetters = Math.max(...map.columns.map((label) => label.length));
  const columnStep = labelStep(columns, cellWidth, columnLetters * 7 + 8);
  svg.append(shape("text", { x: left, y: 12 }, map.columnTitle));
  svg.append(shape("text", { x: left - 8, y: top - 7, "text-anchor": "end" }, map.rowTitle));
  for (let c = 0; c < columns; c += columnStep) {
    svg.append(shape("text", { x: left + (c + 0.5) * cellWidth, y: top - 7, "text-anchor": "middle" }, map.columns[c]));
  }
  const numbers = map.number && cellWidth >= 32 && cellHeight >= 16;
  for (let r = 0; r < rows; ++r) {
    const y = top + r * cellHeight;
    if (r % rowStep === 0) {
      svg.append(shape("text", { x: left - 8, y: y + cellHeight / 2 + 4, "text-anchor": "end" }, fitLabel(map.rows[r], left - 8)));
    }
    for (let c = 0; c < columns; ++c) {
      const colour = map.colour(r, c);
      if (!colour) {
        continue;
      }
      const x = left + c * cellWidth;
      const cell = shape("rect", { x, y, width: cellWidth - gap, height: cellHeight - gap });
      cell.style.fill = colour;
      svg.append(cell);
      if (map.mark?.(r, c)) {
        const size = Math.min(cellWidth, cellHeight) / 4;
        const [mx, my] = [x + (cellWidth - gap) / 2, y + (cellHeight - gap) / 2];
        svg.append(shape("path", { class: "dead", d: `M${mx - size} ${my - size}l${2 * size} ${2 * size}m0 ${-2 * size}l${-2 * size} ${2 * size}` }));
      } else if (numbers) {
        svg.append(shape(
          "text",
          { x: x + (cellWidth - gap) / 2, y: y + cellHeight / 2 + 4, "text-anchor": "middle", class: `number ${map.onDark?.(r, c) ?? ""}` },
          map.number(r, c)));
      }
    }
  }
  const cursor = shape("rect", { class: "cursor", width: cellWidth - gap, height: cellHeight - gap, visibility: "hidden" });
  svg.append(cursor);
  const move = gridKeys(svg, rows, columns, (r, c) => {
    cursor.setAttribute("x", left + c * cellWidth);
    cursor.setAttribute("y", top + r * cellHeight);
    cursor.setAttribute("visibility", "visible");
    say(map.describe(r, c));
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const c = Math.floor(((event.clientX - box.left) * width / box.width - left) / cellWidth);
    const r = Math.floor(((event.clientY - box.top) * height / box.height - top) / cellHeight);
    if (r >= 0 && r < rows && c >= 0 && c < columns) {
      move(r, c);
    }
  });
  return svg;
}

/// Round numbers that divide [low, high].
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const result = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step) {
    result.push(Math.abs(tick) < step * 1e-6 ? 0 : tick);
  }
  return result;
}

/// Curves over steps. `series`: {name, values, colour}, null where unknown: a curve goes on
/// behind a gap, and is drawn as dots where most values are unknown.
function curves(width, say, steps, series) {
  const height = 190;
  const [left, right, top, bottom] = [46, 10, 8, 24];
  const known = series.flatMap((one) => one.values.filter((value) => value !== null));
  const low = Math.min(...known);
  const high = Math.max(...known);
  const pad = (high - low || Math.abs(high) || 1) * 0.05;
  const [from, to] = [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const x = (step) => left + (last > first ? (step - first) / (last - first) : 0.5) * (width - left - right);
  const y = (value) => top + (to - value) / (to - from) * (height - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}` });
  for (const tick of ticks(from, to, 4)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(shape("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, short(Number(tick.toPrecision(6)))));
  }
  for (const tick of ticks(first, last, Math.max(3, Math.floor(width / 90))).filter(Number.isInteger)) {
    svg.append(shape("text", { x: x(tick), y: height - 6, "text-anchor": x(tick) > width - 30 ? "end" : "middle" }, short(tick)));
  }
  for (const one of series) {
    const points = one.values.flatMap((value, i) => (value === null ? [] : [[x(steps[i]), y(value)]]));
    const line = shape("path", { class: "line", d: `M${points.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}` });
    line.style.stroke = one.colour;
    svg.append(line);
    if (points.length <= 40) {
      for (const [px, py] of points) {
        const dot = shape("circle", { cx: px, cy: py, r: 3 });
        dot.style.fill = one.colour;
        svg.append(dot);
      }
    }
  }
  const cursor = shape("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(cursor);
  const move = gridKeys(svg, 1, steps.length, (_, i) => {
    cursor.setAttribute("x1", x(steps[i]));
    cursor.setAttribute("x2", x(steps[i]));
    cursor.setAttribute("visibility", "visible");
    const values = series.filter((one) => one.values[i] !== null).map((one) => `${one.name} ${short(one.values[i])}`);
    say(`Step ${steps[i]}: ${values.join(", ")}`);
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const step = first + ((event.clientX - box.left) * width / box.width - left) / (width - left - right) * (last - first);
    let nearest = 0;
    steps.forEach((candidate, i) => {
      nearest = Math.abs(candidate - step) < Math.abs(steps[nearest] - step) ? i : nearest;
    });
    move(0, nearest);
  });
  return svg;
}
