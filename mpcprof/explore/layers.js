// The table of layers and heads: a click gives a head what is painted with.

const N_OWN = 8; // colours of variants, classes own0 to own7

// Return the colour of each variant of a configuration, by its place among them.
function variantColours(config) {
  return new Map([...new Set(config.attention.flat())].map((name, i) => [name, i % N_OWN]));
}

function shortName(name) {
  const words = name.split("_");
  if (words.length === 1) return name.slice(0, 2);
  return (words[0][0] + words[1][0]).toLowerCase();
}

function layerOptions(names, value) {
  return names.map((name) =>
    `<option${name === value ? " selected" : ""}>${name}</option>`).join("");
}

function headButton({ layer, head, name, brush, colour, place }) {
  const where = head < 0 ? `layer ${layer + 1}` : `layer ${layer + 1}, head ${head + 1}`;
  const shown = head < 0 ? name : shortName(name);
  return `<button type="button" class="own${colour}" data-layer="${layer}" ` +
    `data-head="${head}" tabindex="${place === "0,0" ? 0 : -1}" data-place="${place}" ` +
    `title="${where}: ${name}" aria-label="${where}: ${shown} ${name}; set to ${brush}">${shown}</button>`;
}

// Return the table as HTML; `brush` is what a click gives.
function layersHtml(data, config, brush) {
  const colours = variantColours(config);
  const nHeads = config.n_heads;
  const activations = Object.keys(data.activations);
  const norms = normNames(data, config.family);
  const heads = Array.from({ length: nHeads }, (_, i) =>
    `<th scope="col"><span class="hidden">head </span>${i + 1}</th>`).join("");
  const rows = config.attention.map((own, layer) => {
    const isMixer = Boolean(data.mixers[own[0]]);
    const cells = isMixer
      ? `<td class="mixer" colspan="${nHeads}">` + headButton({
        layer, head: -1, name: own[0], brush, colour: colours.get(own[0]),
        place: `${layer},0` }) + "</td>"
      : own.map((name, head) => `<td>${headButton({
        layer, head, name, brush, colour: colours.get(name),
        place: `${layer},${head}` })}</td>`).join("");
    return `<tr><th scope="row"><button type="button" data-row="${layer}" ` +
      `title="set all of layer ${layer + 1} to ${brush}" ` +
      `aria-label="set all of layer ${layer + 1} to ${brush}">${layer + 1}</button></th>` +
      `${cells}<td><select data-activation="${layer}" ` +
      `aria-label="activation of layer ${layer + 1}">` +
      `${layerOptions(activations, config.activation[layer])}</select></td>` +
      `<td><select data-norm="${layer}" aria-label="norm of layer ${layer + 1}">` +
      `${layerOptions(norms, config.norm[layer])}</select></td></tr>`;
  }).join("");
  const key = [...colours].map(([name, colour]) =>
    `<li><i class="hue${colour}"></i>${shortName(name)} ${name}</li>`).join("");
  return `<ul class="legend" aria-label="variants">${key}</ul><div class="scroll" ` +
    'role="region" aria-label="layers and heads" tabindex="0"><table class="grid">' +
    '<thead><tr><th scope="col">layer</th>' +
    `${heads}<th scope="col">activation</th><th scope="col">norm</th></tr></thead>` +
    `<tbody>${rows}</tbody></table></div>`;
}

// Give one head, or a layer (head < 0), the variant or mixer of the brush.
function paint(data, config, layer, head, brush) {
  const attention = config.attention.map((own) => [...own]);
  const isWhole = head < 0 || data.mixers[brush] || data.mixers[attention[layer][0]];
  if (data.mixers[brush]) attention[layer] = [brush];
  else if (isWhole) attention[layer] = Array(config.n_heads).fill(brush);
  else attention[layer][head] = brush;
  return { ...config, attention };
}

// Move between heads by the arrow keys: one tab stop for the table.
function moveInLayers(event) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const move = moves[event.key];
  const place = event.target.dataset && event.target.dataset.place;
  if (!move || !place) return;
  const [layer, head] = place.split(",").map(Number);
  const row = (at) => find("layers").querySelector(`[data-place="${at}"]`);
  const next = row(`${layer + move[0]},${head + move[1]}`) ||
    (move[0] ? row(`${layer + move[0]},0`) : null);
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
