// The page: what was chosen, drawn anew after each change.

const data = JSON.parse(find("data").textContent);
const pricer = new Pricer(data);
const FAMILY_NAMES = {
  class_token: "class token", mean: "mean of tokens", client: "words looked up by client",
  one_hot: "words as one-hot rows",
};
const firstProfile = data.profiles.semi2k ? "semi2k" : Object.keys(data.profiles)[0];
const state = {
  network: { bandwidth: data.networks.wan[0], rtt_s: data.networks.wan[1] },
  a: presetConfig(data, firstProfile, "cifar", { attention: "softmax" }),
  b: presetConfig(data, firstProfile, "cifar", { attention: "relu_softmax", plan: true }),
  edit: "a", hasB: true, brush: "scale", perHour: 0, perGB: 0,
};

const NETWORK_CONTROLS = [
  logControl("rtt", "Round trip", RTT_RANGE, (v) => formatDuration(v), parseDuration),
  logControl("bandwidth", "Bandwidth", BANDWIDTH_RANGE, (v) => formatBandwidth(v),
    parseBandwidth),
];
const MONEY_CONTROLS = [
  { id: "per-hour", label: "USD / hour", show: (v) => formatG(v, 6), read: price },
  { id: "per-gb", label: "USD / GB", show: (v) => formatG(v, 6), read: price },
];
const MENUS = [
  { id: "profile", label: "Protocol" }, { id: "model", label: "Start from" },
  { id: "family", label: "Tokens" }, { id: "heads", label: "Heads run" },
];
const COUNTS = [
  { ...countControl("n_batch", "Batch", [1, 64]) },
  countControl("n_layers", "Layers", [1, 24]),
  countControl("n_heads", "Heads", [1, 16]),
  tokensControl(),
  { ...countControl("width", "Width", [8, 1024], () => {
    const heads = edited().n_heads;
    return { least: heads, step: heads, most: Math.floor(1024 / heads) * heads };
  }), read: readWidth },
  countControl("hidden", "MLP width", [8, 4096], () => ({ least: 8, step: 8 })),
  { ...countControl("n_classes", "Classes", [2, 1000]), range: false },
];
const ALL_MENUS = [
  { id: "all-attention", label: "Mixing" }, { id: "all-activation", label: "Activation" },
  { id: "all-norm", label: "Norm" },
];

function edited() {
  return state[state.edit];
}

function readWidth(text) {
  const value = wholeNumber(...LIMITS.width)(text);
  const heads = edited().n_heads;
  if (value % heads) {
    const near = Math.max(Math.round(value / heads), 1) * heads;
    throw `“${text}”: no multiple of ${heads} heads; type ${near}`;
  }
  return value;
}

// Tokens: of an image, a square of patches and perhaps a class token.
function tokensControl() {
  const nClass = () => (edited().family === "class_token" ? 1 : 0);
  return {
    id: "tokens", label: "Tokens", range: true,
    show: (value) => String(isImage(data, edited()) ? value ** 2 + nClass() : value),
    fromSlider: Number,
    slider: (value) => isImage(data, edited())
      ? { least: 1, most: 24, step: 1, place: value }
      : { least: 8, most: 512, step: 1, place: value },
    read: (text) => {
      if (!isImage(data, edited())) return wholeNumber(...LIMITS.n_tokens)(text);
      const value = wholeNumber(2, 4097)(text);
      const side = Math.max(Math.round(Math.sqrt(value - nClass())), 1);
      if (side ** 2 + nClass() !== value) {
        throw `“${text}”: an image is a square of patches; type ${side ** 2 + nClass()}`;
      }
      return side;
    },
  };
}

const nets = new WeakMap(); // the network of each configuration, which never changes

// Return what is priced of one configuration: {config, net, prediction or problem}.
function evaluate(config) {
  if (!nets.has(config)) nets.set(config, networkOf(data, config));
  const net = nets.get(config);
  try {
    return { config, net, prediction: pricer.predict(config.profile, net, state.network) };
  } catch (problem) {
    if (!(problem instanceof MissingEntry)) throw problem;
    return { config, net, problem: problem.message };
  }
}

// Return money of an input: hours of all parties, and bytes that they send (money.py).
function moneyOf({ config, prediction }) {
  const nParties = data.profiles[config.profile].n_parties;
  const call = (nParties * prediction.latency_s * state.perHour) / 3600 +
    (prediction.total_bytes_sent / 1e9) * state.perGB;
  return call / config.n_batch;
}

function describe(config) {
  const net = networkOf(data, config);
  const own = new Set(config.attention.flat());
  const mixing = own.size === 1 ? [...own][0] : `${own.size} kinds of mixing`;
  return `${modelName(data, config)}, ${mixing}, ${net.n_tokens} tokens` +
    (config.n_batch > 1 ? `, batch ${config.n_batch}` : "") +
    (config.plan ? ", rewrites" : "");
}

function protocolOf(config) {
  const { protocol, runtime } = data.profiles[config.profile];
  return `${protocol} on ${runtime}`;
}

// Return the facts of a result: [name, text].
function factsOf(result) {
  const { prediction } = result;
  const wire = prediction.parts.reduce((all, part) => all + part.wire_bytes, 0);
  const parts = partsOf({ ...prediction, wire_bytes: wire }, state.network);
  const share = (seconds) =>
    `${formatDuration(seconds, 3)} (${Math.round((100 * seconds) / prediction.latency_s)} %)`;
  const facts = [
    ["Hops", formatHops(prediction.hops)],
    ["Sent by rank 0", formatBytes(prediction.bytes_sent, 4)],
    ["Sent by all parties", formatBytes(prediction.total_bytes_sent, 4)],
    ["Compute", share(parts[0])],
    ["Waiting for hops", share(parts[1])],
    ["Waiting for bytes", share(parts[2])],
  ];
  if (state.perHour || state.perGB) {
    facts.push(["Money for an input", `${formatG(moneyOf(result), 4)} USD`]);
  }
  return facts;
}

function cardHtml(which, result, other) {
  const head = `<header><b class="chip ${which}">${MARKS[which]}</b>` +
    `<p>${escapeText(protocolOf(result.config))}: ${escapeText(describe(result.config))}` +
    "</p></header>";
  if (result.problem) {
    return `<article class="card" aria-label="${MARKS[which]}">${head}` +
      `<p class="wrong">${escapeText(result.problem)}</p></article>`;
  }
  const { prediction } = result;
  const [low, high] = prediction.interval_s.map((one) => formatDuration(one, 4));
  const ratio = other && other.prediction
    ? other.prediction.latency_s / prediction.latency_s : 1;
  const faster = ratio > 1.005
    ? `<small>${formatG(ratio, 3)} × as fast as ${MARKS[which === "a" ? "b" : "a"]}</small>` : "";
  const facts = factsOf(result).map(([name, text]) =>
    `<dt>${name}</dt><dd>${escapeText(text)}</dd>`).join("");
  const notes = prediction.notes.map((one) => `<li>${escapeText(one)}</li>`).join("");
  return `<article class="card" aria-label="${MARKS[which]}">${head}` +
    `<p class="big">${formatDuration(prediction.latency_s, 4)}${faster}</p>` +
    `<p class="range">${low} to ${high}, ${prediction.basis}</p>` +
    `<dl class="facts">${facts}</dl>` +
    (notes ? `<ul class="notes" aria-label="warnings">${notes}</ul>` : "") + "</article>";
}

// Return [which, result] of what can be drawn.
function drawnResults() {
  return Object.entries(results).filter(([, one]) => one && one.prediction);
}

let results = {};
let tables = {};

function figureHtml(id, title, caption, isWide) {
  const buttons = ["PNG", "SVG", "CSV"].map((kind) =>
    `<button type="button" data-figure="${id}" data-kind="${kind.toLowerCase()}" ` +
    `aria-label="${title} as ${kind}">${kind}</button>`).join("");
  return `<figure id="figure-${id}" class="${isWide ? "wide" : ""}"><header>` +
    `<h2>${title}</h2><div class="exports">${buttons}</div></header>` +
    `<p class="caption">${caption}</p><div class="body"></div><ul class="legend"></ul>` +
    `<details data-table="${id}"><summary>Table of ${title.toLowerCase()}</summary>` +
    `<div class="scroll" role="region" tabindex="0" aria-label="table of ` +
    `${title.toLowerCase()}"></div></details></figure>`;
}

function legendHtml(items) {
  return items.map(([name, kind]) => `<li><i class="${kind}"></i>${escapeText(name)}</li>`)
    .join("");
}

const shownHtml = new WeakMap();

// Set what an element holds, only where it changed: elements are dear, texts are not.
function setHtml(element, html) {
  if (shownHtml.get(element) === html) return;
  shownHtml.set(element, html);
  element.innerHTML = html;
}

let figuresWidth = 0; // of the figures, measured once and when the window changes

function setFigure(id, body, legend, table) {
  const figure = find(`figure-${id}`);
  setHtml(figure.querySelector(".body"), body);
  setHtml(figure.querySelector(".legend"), legend);
  tables[id] = table;
  showTable(id);
}

// Fill the table behind a figure, where it is open.
function showTable(id) {
  const details = find(`figure-${id}`).querySelector("details");
  if (details.open) {
    details.querySelector("div").innerHTML =
      tableHtml(tables[id](), details.querySelector("summary").textContent);
  }
}

function drawFigures() {
  const shown = drawnResults();
  find("figures").hidden = !shown.length;
  if (!shown.length) return;
  figuresWidth = figuresWidth || find("figures").clientWidth;
  const full = Math.max(figuresWidth - 30, 240);
  const isNarrow = window.innerWidth <= 1020;
  const isPair = shown.length > 1 && full > 640;
  const half = isNarrow ? full : Math.floor((full - 42) / 2);
  const layers = drawLayers(shown, state.network, isPair ? Math.floor((full - 12) / 2) : full);
  setFigure("layers", `<div class="pair">${layers.map(({ which, svg }) =>
    `<div data-label="${MARKS[which]}: ${escapeText(describe(results[which].config))}">` +
    `<h3><b class="chip ${which}">${MARKS[which]}</b> ` +
    `${escapeText(protocolOf(results[which].config))}</h3>${svg}</div>`).join("")}</div>`,
    legendHtml(usedGroups(shown).map(([name, i]) => [name, `hue${i}`])),
    () => layerTable(shown, state.network));
  setFigure("operations", drawOperations(shown, state.network, full),
    legendHtml(PARTS.map((name, i) => [name, `hue${GROUPS.length + i}`])),
    () => operationTable(shown, state.network));
  for (const name of Object.keys(AXES)) drawAxis(name, shown, half);
}

function drawAxis(name, shown, width) {
  const axis = AXES[name];
  const curves = shown.map(([which, result]) => ({
    ...knownCurve(name, which, result),
    name: `${MARKS[which]}: ${describe(result.config)}`, kind: which, mark: MARKS[which],
    here: result.prediction.latency_s,
  }));
  const cross = curves.length > 1 ? crossings(curves[0], curves[1]) : [];
  const fixed = name === "rtt"
    ? formatBandwidth(state.network.bandwidth, 4) : formatDuration(state.network.rtt_s, 4);
  find(`figure-${name}`).querySelector(".caption").textContent =
    `At ${fixed}; the dotted line is the network that is chosen` +
    (cross.length ? ", the circle where A and B take the same." : ".");
  setFigure(name, drawCurves(name, curves, cross, state.network, width),
    legendHtml(curves.map((one) => [one.name, one.kind])),
    () => curveTable(curves, axis));
}

// Curves that the last change left as they were.
const curveCache = new Map();

function knownCurve(name, which, result) {
  const fixed = name === "rtt" ? state.network.bandwidth : state.network.rtt_s;
  const key = `${packConfig(result.config)} ${fixed}`;
  const known = curveCache.get(name + which);
  if (known && known.key === key) return known.curve;
  const curve = curveOf(pricer, result, AXES[name], state.network);
  curveCache.set(name + which, { key, curve });
  return curve;
}

function summaryTable() {
  const shown = drawnResults();
  const rows = [
    ["deployment", ...shown.map(([, { config }]) => protocolOf(config))],
    ["network", ...shown.map(([, { config }]) => describe(config))],
    ["link", ...shown.map(() => formatNetwork(state.network))],
    ["latency", ...shown.map(([, one]) => formatDuration(one.prediction.latency_s, 4))],
    ["interval", ...shown.map(([, one]) => one.prediction.interval_s
      .map((s) => formatDuration(s, 4)).join(" to "))],
    ["basis", ...shown.map(([, one]) => one.prediction.basis)],
  ];
  const facts = shown.map(([, one]) => factsOf(one));
  (facts[0] || []).forEach(([name], i) =>
    rows.push([name.toLowerCase(), ...facts.map((own) => own[i][1])]));
  return { head: ["", ...shown.map(([which]) => MARKS[which])], rows };
}

function drawCommands() {
  setHtml(find("commands"), Object.entries(results).filter(([, one]) => one).map(
    ([which, { config }]) => {
      const { text, needsFile } = predictCommand(data, config, state);
      const file = needsFile ? `<p class="hint">arch.json is that of ${MARKS[which]}, above</p>` : "";
      return `<div class="command"><b class="chip ${which}">${MARKS[which]}</b>` +
        `<pre class="code" tabindex="0" aria-label="command of ${MARKS[which]}">` +
        `${escapeText(text)}</pre></div>${file}`;
    }).join(""));
}

let isAsked = false;

// Draw all after the events of this moment.
function changed() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

function draw() {
  const started = performance.now();
  results = { a: evaluate(state.a), b: state.hasB ? evaluate(state.b) : null };
  setHtml(find("summary"), cardHtml("a", results.a, results.b) +
    (results.b ? cardHtml("b", results.b, results.a) : ""));
  setHtml(find("strip"), drawnResults().map(([which, { prediction }]) =>
    `<span><b class="chip ${which}">${MARKS[which]}</b> ` +
    `${formatDuration(prediction.latency_s, 4)} <small>${formatHops(prediction.hops)} hops, ` +
    `${formatBytes(prediction.bytes_sent, 3)}</small></span>`).join(""));
  showControls();
  drawFigures();
  drawCommands();
  document.body.dataset.drawMs = (performance.now() - started).toFixed(1);
  remember();
}

let later = 0;

// Say the result to a screen reader, and keep it in the address, once it stands still.
function remember() {
  clearTimeout(later);
  later = setTimeout(() => {
    find("spoken").textContent = drawnResults().map(([which, { prediction }]) =>
      `${MARKS[which]}: ${formatDuration(prediction.latency_s, 3)}, ` +
      `${formatHops(prediction.hops)} hops`).join("; ");
    const address = writeAddress();
    if (location.hash !== address) history.replaceState(null, "", address);
  }, 300);
}

function writeAddress() {
  const words = new URLSearchParams({
    network: formatNetwork(state.network), a: packConfig(state.a), b: packConfig(state.b),
    compare: state.hasB ? "1" : "0", hour: state.perHour, gb: state.perGB,
  });
  return `#${words}`;
}

// Read the state in the address; what does not fit is said and left as it was.
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  try {
    if (words.has("network")) {
      const text = words.get("network");
      const [bandwidth, rtt] = text === "loopback" ? ["unlimited", "0s"] : text.split(",");
      state.network =
        { bandwidth: parseBandwidth(bandwidth), rtt_s: parseDuration(String(rtt)) };
    }
    for (const which of ["a", "b"]) {
      if (words.has(which)) state[which] = unpackConfig(data, words.get(which));
    }
    if (words.has("compare")) state.hasB = words.get("compare") === "1";
    state.perHour = price(words.get("hour") || "0");
    state.perGB = price(words.get("gb") || "0");
    find("problem").textContent = "";
  } catch (problem) {
    if (typeof problem !== "string") throw problem;
    find("problem").textContent =
      `The address says what this page does not have: ${problem}. The rest is shown.`;
  }
}

makePage();
readAddress();
draw();
