// What the figures show: seconds by layer, by operation, and over networks.

const GROUPS = [
  ["matmul", ["matmul"]], ["exp", ["exp"]], ["max", ["max"]],
  ["reciprocal", ["reciprocal"]], ["GeLU, tanh", ["gelu_tanh", "gelu_exact", "tanh", "sigmoid"]],
  ["ReLU", ["relu", "less", "select"]], ["rsqrt", ["rsqrt"]],
  ["mul, square", ["mul", "square"]], ["truncation, sum", ["truncation", "sum"]],
  ["local copies", ["local"]],
];
const GROUP_OF = new Map(GROUPS.flatMap(([, names], i) => names.map((name) => [name, i])));
const PARTS = ["compute", "hops", "bytes"]; // hues behind those of the groups
const N_POINTS = 33; // eight for each power of ten
const MARKS = { a: "A", b: "B" };

// Return seconds of compute, hops and bytes, no larger than the whole.
function partsOf(whole, network) {
  const hopsS = (whole.hops * network.rtt_s) / 2;
  const bytesS = whole.wire_bytes / network.bandwidth;
  const share = hopsS + bytesS > 0 ? Math.min(1, whole.latency_s / (hopsS + bytesS)) : 1;
  const waiting = share * (hopsS + bytesS);
  return [Math.max(whole.latency_s - waiting, 0), share * hopsS, share * bytesS];
}

// Return the layers of a prediction: seconds of each group, bytes and hops.
function byLayer(prediction, network) {
  const layers = new Map();
  for (const { operation, part, n, costs } of prediction.priced) {
    const name = part.split("/")[0];
    if (!layers.has(name)) {
      layers.set(name, { name, groups: Array(GROUPS.length).fill(0), bytes: 0, hops: 0 });
    }
    const layer = layers.get(name);
    layer.groups[GROUP_OF.get(operation)] += n * priceS(network, costs);
    layer.bytes += n * costs.bytes_sent;
    layer.hops += n * costs.hops;
  }
  return [...layers.values()].map((layer) => ({
    ...layer, seconds: layer.groups.reduce((all, one) => all + one, 0) }));
}

function layerLabel(name) {
  if (name.startsWith("layer ")) return name.slice(6);
  return name === "embedding" ? "emb" : name;
}

// Return a table: {head, rows}, whose cells are texts or numbers.
function layerTable(results, network) {
  const names = [];
  const own = {};
  for (const [which, { prediction }] of results) {
    own[which] = new Map(byLayer(prediction, network).map((one) => [one.name, one]));
    for (const name of own[which].keys()) if (!names.includes(name)) names.push(name);
  }
  const isEnd = (name) => name === "head";
  names.sort((a, b) => isEnd(a) - isEnd(b));
  const head = ["layer"];
  for (const [which] of results) {
    head.push(...["seconds", "bytes sent", "hops"].map((one) => `${MARKS[which]} ${one}`));
  }
  const rows = names.map((name) => [name, ...results.flatMap(([which]) => {
    const one = own[which].get(name);
    return one ? [one.seconds, one.bytes, one.hops] : ["", "", ""];
  })]);
  return { head, rows };
}

// Return the groups that any of the results has steps of, with their hues.
function usedGroups(results) {
  const used = new Set(results.flatMap(([, { prediction }]) =>
    prediction.operations.map((one) => GROUP_OF.get(one.name))));
  return GROUPS.map(([name], i) => [name, i]).filter(([, i]) => used.has(i));
}

function drawLayers(results, network, width) {
  const all = results.map(([which, { prediction }]) =>
    [which, byLayer(prediction, network)]);
  const ticks = roundTicks(Math.max(...all.flatMap(([, layers]) =>
    layers.map((layer) => layer.seconds))));
  return all.map(([which, layers]) => {
    const columns = layers.map((layer) => ({
      label: layerLabel(layer.name),
      long: layer.name,
      values: layer.groups.map((value, hue) => ({ name: GROUPS[hue][0], value, hue })),
    }));
    const slowest = [...layers].sort((x, y) => y.seconds - x.seconds)[0];
    return { which, svg: columnChart({
      id: `layers-${which}`, width, columns, ticks, hasAxis: true, unit: " per layer",
      title: `${MARKS[which]}: seconds by layer, stacked by operation`,
      description: `${columns.length} columns; the slowest is ${slowest.name} with ` +
        `${formatDuration(slowest.seconds, 3)}.`,
    }) };
  });
}

function operationTable(results, network) {
  const seconds = new Map();
  for (const [, { prediction }] of results) {
    for (const one of prediction.operations) {
      seconds.set(one.name, Math.max(seconds.get(one.name) || 0, one.latency_s));
    }
  }
  const names = [...seconds.keys()].sort((a, b) => seconds.get(b) - seconds.get(a));
  const keys = ["seconds", "compute s", "hops s", "bytes s", "bytes sent", "hops", "steps"];
  const head = ["operation"];
  for (const [which] of results) head.push(...keys.map((key) => `${MARKS[which]} ${key}`));
  const rows = names.map((name) => [name, ...results.flatMap(([, { prediction }]) => {
    const one = prediction.operations.find((found) => found.name === name);
    if (!one) return keys.map(() => "");
    return [one.latency_s, ...partsOf(one, network), one.bytes_sent, one.hops, one.count];
  })]);
  return { head, rows };
}

function drawOperations(results, network, width) {
  const { rows } = operationTable(results, network);
  const shown = rows.slice(0, 14).map(([label, ...cells]) => ({
    label,
    bars: results.map((_, i) => PARTS.map((name, part) => ({
      name, value: Number(cells[i * 7 + 1 + part]) || 0, hue: GROUPS.length + part }))),
  }));
  const slowest = rows[0] ? `the slowest is ${rows[0][0]}` : "none";
  return rowChart({
    id: "operations", width, rows: shown, marks: results.map(([which]) => MARKS[which]),
    title: "Seconds by operation, stacked by compute, hops and bytes",
    description: `${shown.length} operations; ${slowest}.`,
  });
}

// The two axes of the curves: what varies, from where to where, and how it is written.
const AXES = {
  rtt: {
    title: "Seconds against round trip", unit: "round trip", range: RTT_RANGE,
    at: (network) => network.rtt_s, with: (network, rtt_s) => ({ ...network, rtt_s }),
    show: (value, digits = 4) => formatDuration(value, digits),
  },
  bandwidth: {
    title: "Seconds against bandwidth", unit: "bandwidth, each direction",
    range: BANDWIDTH_RANGE, at: (network) => network.bandwidth,
    with: (network, bandwidth) => ({ ...network, bandwidth }),
    show: (value, digits = 4) => formatBandwidth(value, digits),
  },
};

// Return the curve of one result: {points, secondsAt}.
function curveOf(pricer, result, axis, network) {
  const seconds = pricer.curve(result.config.profile, result.net);
  const secondsAt = (value) => seconds(axis.with(network, value));
  const [low, high] = axis.range;
  const points = Array.from({ length: N_POINTS }, (_, i) => {
    const value = low * (high / low) ** (i / (N_POINTS - 1));
    return [value, secondsAt(value)];
  });
  return { points, secondsAt };
}

// Return where two curves cross, by halving between points: [[value, seconds]].
function crossings(one, other) {
  const found = [];
  const gap = (value) => one.secondsAt(value) - other.secondsAt(value);
  for (let i = 1; i < one.points.length; i++) {
    let [low, high] = [one.points[i - 1][0], one.points[i][0]];
    const before = one.points[i - 1][1] - other.points[i - 1][1];
    const behind = one.points[i][1] - other.points[i][1];
    if (!(before * behind < 0)) continue;
    for (let halving = 0; halving < 30; halving++) {
      const middle = Math.sqrt(low * high);
      if (gap(middle) * before > 0) low = middle;
      else high = middle;
    }
    found.push([low, one.secondsAt(low)]);
  }
  return found;
}

function curveTable(curves, axis) {
  const head = [axis.unit, ...curves.map(({ mark }) => `${mark} seconds`)];
  const rows = curves.length ? curves[0].points.map(([value], i) =>
    [axis.show(value, 3), ...curves.map(({ points }) => points[i][1])]) : [];
  return { head, rows };
}

function drawCurves(name, curves, cross, network, width) {
  const axis = AXES[name];
  const where = cross.map(([value]) => axis.show(value, 3)).join(", ");
  return curveChart({
    id: `curves-${name}`, width, curves, crossings: cross, unit: axis.unit,
    at: { x: axis.at(network) }, showX: (value, digits) => axis.show(value, digits),
    title: axis.title,
    description: curves.length > 1
      ? cross.length ? `The curves cross at ${where}.` : "The curves do not cross."
      : "One curve.",
  });
}
