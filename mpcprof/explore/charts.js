// Charts as SVG texts. Every one has a title, a description and a table behind it.

const escapeText = (text) => String(text)
  .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

// Return up to n round values from 0 to just above the largest.
function roundTicks(largest, n = 5) {
  if (!(largest > 0)) return [0, 1];
  const rough = largest / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((one) => one * power >= rough) * power;
  const ticks = [];
  for (let i = 0; i * step < largest + step * 0.999; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

// Return the powers of ten from one value to another; with few, 2 and 5 times them too.
function logTicks(low, high) {
  const powers = [];
  for (let p = Math.ceil(Math.log10(low) - 1e-9); 10 ** p <= high * 1.000001; p++) {
    powers.push(p);
  }
  const factors = powers.length < 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)) - 1; 10 ** p <= high; p++) {
    for (const factor of factors) {
      const tick = Number(`${factor}e${p}`);
      if (tick >= low * 0.999999 && tick <= high * 1.000001) ticks.push(tick);
    }
  }
  return ticks;
}

function svgChart({ id, width, height, title, description, body }) {
  return `<svg xmlns="http://www.w3.org/2000/svg" id="${id}" class="chart" role="img"` +
    ` viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"` +
    ` aria-labelledby="${id}-title ${id}-desc">` +
    `<title id="${id}-title">${escapeText(title)}</title>` +
    `<desc id="${id}-desc">${escapeText(description)}</desc>${body}</svg>`;
}

function svgText(x, y, text, { at = "start", kind = "label", turn = 0 } = {}) {
  const turned = turn ? ` transform="rotate(${turn} ${x} ${y})"` : "";
  return `<text x="${x}" y="${y}" text-anchor="${at}" class="${kind}"${turned}>` +
    `${escapeText(text)}</text>`;
}

function svgLine(x1, y1, x2, y2, kind) {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" class="${kind}"/>`;
}

const px = (value) => Math.round(value * 10) / 10;

// Draw columns of stacked values: {label, long, values: [{name, value, hue}]}.
function columnChart({ id, width, columns, ticks, title, description, hasAxis, unit }) {
  const [left, right, top, bottom] = [hasAxis ? 54 : 14, 8, 26, 42];
  const height = 250;
  const [inner, deep] = [width - left - right, height - top - bottom];
  const most = ticks[ticks.length - 1];
  const y = (value) => px(top + deep * (1 - value / most));
  let body = "";
  for (const tick of ticks) {
    body += svgLine(left, y(tick), width - right, y(tick), tick ? "grid" : "axis");
    if (hasAxis) body += svgText(left - 6, y(tick) + 4, formatG(tick, 4), { at: "end" });
  }
  body += svgText(left, 14, `seconds${unit}`, { kind: "unit" });
  const step = inner / columns.length;
  const wide = Math.min(step * 0.72, 46);
  const every = Math.ceil((longest(columns) * 6.6 + 8) / step);
  columns.forEach((column, i) => {
    const x = left + step * (i + 0.5);
    let sum = 0;
    for (const { name, value, hue } of column.values) {
      if (!(value > 0)) continue;
      const [low, high] = [y(sum), y(sum + value)];
      sum += value;
      body += `<rect x="${px(x - wide / 2)}" y="${high}" width="${px(wide)}" ` +
        `height="${px(Math.max(low - high, 0))}" class="hue${hue}" ` +
        `data-tip="${column.long}, ${name}: ${formatDuration(value, 3)}"/>`;
    }
    if (i % every === 0) {
      body += svgText(px(x), height - bottom + 16, column.label, { at: "middle" });
    }
  });
  body += svgText(left + inner / 2, height - 6, "layer", { at: "middle", kind: "unit" });
  return svgChart({ id, width, height, title, description, body });
}

function longest(columns) {
  return Math.max(...columns.map((column) => column.label.length));
}

// Draw rows of stacked values, one or two bars a row: {label, bars: [[{...}]]}.
function rowChart({ id, width, rows, title, description, marks }) {
  const isSmall = width < 460;
  const [left, right, top, bottom] = [isSmall ? 84 : 104, 62, 8, 40];
  const thick = marks.length > 1 ? 11 : 16;
  const step = marks.length * (thick + 2) + 9;
  const height = top + rows.length * step + bottom;
  const inner = width - left - right;
  const sums = rows.flatMap(({ bars }) =>
    bars.map((bar) => bar.reduce((all, { value }) => all + value, 0)));
  const ticks = roundTicks(Math.max(...sums, 0), isSmall ? 3 : 5);
  const most = ticks[ticks.length - 1];
  const x = (value) => px(left + (inner * value) / most);
  let body = "";
  for (const tick of ticks) {
    body += svgLine(x(tick), top, x(tick), height - bottom, tick ? "grid" : "axis");
    body += svgText(x(tick), height - bottom + 15, formatG(tick, 4), { at: "middle" });
  }
  rows.forEach(({ label, bars }, i) => {
    const y = top + i * step + 4;
    body += svgText(left - 7, px(y + (step - 9) / 2 + 4), label, { at: "end" });
    bars.forEach((bar, which) => {
      const at = y + which * (thick + 2);
      let sum = 0;
      for (const { name, value, hue } of bar) {
        if (!(value > 0)) continue;
        body += `<rect x="${x(sum)}" y="${px(at)}" height="${thick}" ` +
          `width="${px(x(sum + value) - x(sum))}" class="hue${hue}" ` +
          `data-tip="${marks[which]} ${label}, ${name}: ${formatDuration(value, 3)}"/>`;
        sum += value;
      }
      const total = sum ? formatDuration(sum, 3) : "none";
      const mark = marks.length > 1 ? `${marks[which]} ` : "";
      body += svgText(x(sum) + 4, px(at + thick - 2), mark + total, { kind: "small" });
    });
  });
  body += svgText(left + inner / 2, height - 6, "seconds", { at: "middle", kind: "unit" });
  return svgChart({ id, width, height, title, description, body });
}

// Draw curves on logarithmic axes: {name, kind, points: [[x, y]]}, with crossings.
function curveChart(chart) {
  const { id, width, curves, at, crossings, title, description, unit, showX } = chart;
  const [left, right, top, bottom] = [54, 22, 26, 42];
  const height = 260;
  const all = curves.flatMap(({ points }) => points);
  const [xLow, xHigh] = [all[0][0], curves[0].points[curves[0].points.length - 1][0]];
  const seconds = all.map((point) => point[1]).filter((one) => one > 0);
  const [yLow, yHigh] = [Math.min(...seconds) / 1.15, Math.max(...seconds) * 1.15];
  const scale = (value, low, high) =>
    (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low));
  const x = (v) => px(left + (width - left - right) * scale(v, xLow, xHigh));
  const y = (v) => px(top + (height - top - bottom) * (1 - scale(v, yLow, yHigh)));
  let body = "";
  for (const tick of logTicks(yLow, yHigh)) {
    body += svgLine(left, y(tick), width - right, y(tick), "grid");
    body += svgText(left - 6, y(tick) + 4, formatG(tick, 6), { at: "end" });
  }
  const ticks = logTicks(xLow, xHigh);
  const every = Math.ceil(62 / ((width - left - right) / ticks.length));
  ticks.forEach((tick, i) => {
    body += svgLine(x(tick), top, x(tick), height - bottom, "grid");
    if (i % every === 0) {
      const isLast = width - x(tick) < 40;
      body += svgText(isLast ? width - right + 8 : x(tick), height - bottom + 16,
        showX(tick), { at: isLast ? "end" : "middle" });
    }
  });
  body += svgLine(left, height - bottom, width - right, height - bottom, "axis");
  body += svgText(left, 14, "seconds", { kind: "unit" });
  body += svgText((left + width - right) / 2, height - 6, unit,
    { at: "middle", kind: "unit" });
  if (at.x >= xLow && at.x <= xHigh) {
    body += svgLine(x(at.x), top, x(at.x), height - bottom, "here");
  }
  for (const { name, kind, points } of curves) {
    const path = points.map(([a, b]) => `${x(a)},${y(b)}`).join(" ");
    body += `<polyline points="${path}" class="curve ${kind}">` +
      `<title>${escapeText(name)}</title></polyline>`;
  }
  body += labelCurves(curves, at,
    { x, y, right, width, xLow, xHigh, bottom: height - bottom });
  for (const [a, b] of crossings) {
    const isLeft = x(a) > (left + width - right) / 2;
    body += `<circle cx="${x(a)}" cy="${y(b)}" r="5.5" class="crossing"/>`;
    body += svgText(x(a) + (isLeft ? -10 : 10), y(b) + (y(b) > 130 ? -10 : 20),
      `equal at ${showX(a, 3)}`, { at: isLeft ? "end" : "start", kind: "note" });
  }
  return svgChart({ id, width, height, title, description, body });
}

// Mark each curve where the network is, and name it at its end, one above the other.
function labelCurves(curves, at, { x, y, right, width, xLow, xHigh, bottom }) {
  let body = "";
  for (const { kind, here } of curves) {
    if (at.x < xLow || at.x > xHigh) continue;
    body += `<circle cx="${x(at.x)}" cy="${y(here)}" r="4" class="dot ${kind}"/>`;
  }
  const ends = curves.map(({ mark, kind, points }) =>
    ({ mark, kind, y: y(points[points.length - 1][1]) }));
  ends.sort((a, b) => a.y - b.y);
  ends.forEach((end, i) => {
    end.y = Math.min(end.y, bottom - 4 - 15 * (ends.length - 1 - i));
    if (i && end.y - ends[i - 1].y < 15) end.y = ends[i - 1].y + 15;
    body += svgText(width - right + 5, px(end.y + 4), end.mark, { kind: `name ${end.kind}` });
  });
  return body;
}
