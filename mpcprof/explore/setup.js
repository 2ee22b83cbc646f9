// What a person touches: controls made once, shown after each change, and their events.

function makePage() {
  find("network-controls").innerHTML = NETWORK_CONTROLS.map(sliderHtml).join("");
  find("money-controls").innerHTML = MONEY_CONTROLS.map(sliderHtml).join("") +
    '<p class="hint">of the machine of each party; of what each party sends</p>';
  find("config-controls").innerHTML = MENUS.map(menuHtml).join("") +
    checkHtml({ id: "plan", label: "rewrites: fewer hops, same function" }) +
    COUNTS.map(sliderHtml).join("");
  find("all-controls").innerHTML = ALL_MENUS.map(menuHtml).join("");
  find("figures").innerHTML =
    figureHtml("layers", "Seconds by layer", "Each column is a layer, stacked by operation.",
      true) +
    figureHtml("operations", "Seconds by operation",
      "Each bar is what one operation waits for: compute, hops, bytes.", true) +
    figureHtml("rtt", "Seconds against round trip", "", false) +
    figureHtml("bandwidth", "Seconds against bandwidth", "", false);
  find("profiles").innerHTML = "<h3>Profiles on this page</h3><ul>" +
    Object.values(data.profiles).map(({ name, deployment, hosts }) =>
      `<li>${escapeText(`${name}: ${deployment}; measured on ${hosts}`)}</li>`).join("") +
    "</ul>";
  if (window.innerWidth <= 1020) find("layers-details").open = false;
  bindNetwork();
  bindConfig();
  bindLayers();
  bindArchitecture();
  bindTaking();
  window.addEventListener("resize", () => {
    figuresWidth = 0;
    changed();
  });
  find("figures").addEventListener("pointerover", ({ target }) => {
    if (!target.dataset.tip || target.firstChild) return;
    const tip = document.createElementNS("http://www.w3.org/2000/svg", "title");
    tip.textContent = target.dataset.tip;
    target.append(tip);
  });
  window.addEventListener("hashchange", () => {
    readAddress();
    changed();
  });
}

function bindNetwork() {
  const [rtt, bandwidth] = NETWORK_CONTROLS;
  const [perHour, perGB] = MONEY_CONTROLS;
  const set = (change) => {
    change();
    changed();
  };
  bindSlider(rtt, (value) => set(() => (state.network = { ...state.network, rtt_s: value })));
  bindSlider(bandwidth, (value) =>
    set(() => (state.network = { ...state.network, bandwidth: value })));
  bindSlider(perHour, (value) => set(() => (state.perHour = value)));
  bindSlider(perGB, (value) => set(() => (state.perGB = value)));
  for (const button of document.querySelectorAll("[data-network]")) {
    button.addEventListener("click", () => set(() => {
      const [rate, rttS] = data.networks[button.dataset.network];
      state.network = { bandwidth: rate, rtt_s: rttS };
    }));
  }
}

// Put a changed configuration in place of the one that is edited.
function edit(change) {
  state[state.edit] = { ...edited(), ...change };
  changed();
}

function startFrom(model) {
  const own = edited();
  const choices = { ...NORMAL, plan: own.plan, heads: own.heads };
  const { family } = data.models[model];
  const { attention, activation, norm } = own;
  if (mixingNames(data, family).includes(attention[0][0])) choices.attention = attention[0][0];
  if (normNames(data, family).includes(norm[0])) choices.norm = norm[0];
  choices.activation = activation[0];
  edit(presetConfig(data, own.profile, model, choices));
}

function bindConfig() {
  const on = (id, change) => find(id).addEventListener("change", () => change(find(id).value));
  on("profile", (profile) => edit({ profile }));
  on("model", startFrom);
  on("family", (family) => edit(withFamily(data, edited(), family)));
  on("heads", (heads) => edit({ heads }));
  find("plan").addEventListener("change", () => edit({ plan: find("plan").checked }));
  const changes = {
    n_layers: (value) => withLayers(data, edited(), value),
    n_heads: (value) => withHeads(data, edited(), value),
    tokens: (value) => isImage(data, edited()) ? { side: value } : { n_tokens: value },
  };
  for (const control of COUNTS) {
    const change = changes[control.id] || ((value) => ({ [control.id]: value }));
    bindSlider(control, (value) => edit(change(value)));
  }
  for (const button of document.querySelectorAll("[data-edit]")) {
    button.addEventListener("click", () => {
      state.edit = button.dataset.edit;
      if (state.edit === "b") state.hasB = true;
      changed();
    });
  }
  find("has-b").addEventListener("change", () => {
    state.hasB = find("has-b").checked;
    if (!state.hasB) state.edit = "a";
    changed();
  });
  find("copy-over").addEventListener("click", () => {
    state[state.edit === "a" ? "b" : "a"] = edited();
    state.hasB = true;
    changed();
  });
  find("swap").addEventListener("click", () => {
    [state.a, state.b] = [state.b, state.a];
    changed();
  });
}

function bindLayers() {
  const all = (id, change) => find(id).addEventListener("change", () => {
    if (find(id).value) edit(change(find(id).value));
  });
  all("all-attention", (name) => ({
    attention: edited().attention.map(() =>
      data.mixers[name] ? [name] : Array(edited().n_heads).fill(name)),
  }));
  all("all-activation", (name) => ({ activation: edited().activation.map(() => name) }));
  all("all-norm", (name) => ({ norm: edited().norm.map(() => name) }));
  const table = find("layers");
  table.addEventListener("keydown", moveInLayers);
  table.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const { layer, head, row } = button.dataset;
    const focus = button.dataset.place;
    edit(row === undefined
      ? paint(data, edited(), Number(layer), Number(head), state.brush)
      : paint(data, edited(), Number(row), -1, state.brush));
    if (focus) requestAnimationFrame(() => focusHead(focus));
  });
  table.addEventListener("change", ({ target }) => {
    const set = (list, at) => list.map((one, i) => (i === Number(at) ? target.value : one));
    if (target.id === "brush") {
      state.brush = target.value;
      changed();
    } else if (target.dataset.activation) {
      edit({ activation: set(edited().activation, target.dataset.activation) });
    } else if (target.dataset.norm) {
      edit({ norm: set(edited().norm, target.dataset.norm) });
    }
  });
}

// Read an architecture that a search or a colleague wrote into the edited network.
function bindArchitecture() {
  const file = find("arch-file");
  find("open-arch").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    const hint = find("arch-hint");
    const name = file.files[0].name;
    try {
      const text = await file.files[0].text();
      state[state.edit] = configOfArchitecture(data, text, edited());
      hint.textContent = `${name} is shown`;
      hint.classList.remove("wrong");
      changed();
    } catch (problem) {
      if (typeof problem !== "string") throw problem;
      hint.textContent = `${name} cannot be shown: ${problem}`;
      hint.classList.add("wrong");
    }
    file.value = "";
  });
}

function focusHead(place) {
  const table = find("layers");
  const button = table.querySelector(`[data-place="${place}"]`) ||
    table.querySelector(`[data-place="${place.split(",")[0]},0"]`);
  if (button) button.focus();
}

const optionsKnown = new Map();

// Return what `make` makes, once for each profile, family and plan.
function onceFor(what, { profile, family, plan }, make) {
  const key = [what, profile, family, plan].join();
  if (!optionsKnown.has(key)) optionsKnown.set(key, make());
  return optionsKnown.get(key);
}

// Return the names with those that the profile cannot price marked.
function pricedOptions(names, templatesOf) {
  const model = pricer.model(edited().profile);
  return names.map((name) => {
    const steps = templatesOf(name).flatMap((number) => pricer.networks.templates[number]);
    const missing = model.priced(steps).find((one) => !model.profile.fits[one.operation]);
    return [name, missing ? `${name} (${missing.operation} not measured)` : name];
  });
}

function mixingTemplates(name) {
  const own = data.attention[name];
  if (own) return edited().plan ? own.folded.flat() : own.plain.flat();
  return data.families[edited().family].mixers[name].flat(2);
}

function showControls() {
  const config = edited();
  for (const [control, value] of [
    [NETWORK_CONTROLS[0], state.network.rtt_s], [NETWORK_CONTROLS[1], state.network.bandwidth],
    [MONEY_CONTROLS[0], state.perHour], [MONEY_CONTROLS[1], state.perGB],
  ]) showSlider(control, value);
  fillMenu(find("profile"), Object.values(data.profiles).map(({ name, protocol, runtime }) =>
    [name, `${protocol} on ${runtime}${
      name.startsWith(protocol) && !name.includes("measured") ? "" : ` (${name})`}`]),
  config.profile);
  fillMenu(find("model"), Object.keys(data.models), config.model);
  const families = isImage(data, config) ? ["class_token", "mean"] : ["client", "one_hot"];
  fillMenu(find("family"), families.map((name) => [name, FAMILY_NAMES[name]]), config.family);
  fillMenu(find("heads"), [["batched", "together (batched)"], ["serial", "one by one (serial)"]],
    config.heads);
  find("plan").checked = config.plan;
  const values = { tokens: isImage(data, config) ? config.side : config.n_tokens };
  for (const control of COUNTS) showSlider(control, values[control.id] ?? config[control.id]);
  showWhich();
  showLayers(config);
}

function showWhich() {
  const mark = MARKS[state.edit];
  for (const button of document.querySelectorAll("[data-edit]")) {
    button.setAttribute("aria-pressed", String(button.dataset.edit === state.edit));
  }
  find("has-b").checked = state.hasB;
  find("config-legend").textContent = `${mark}: deployment and sizes`;
  find("layers-legend").textContent = `${mark}: layers and heads`;
  find("copy-over").textContent = `Copy ${mark} to ${mark === "A" ? "B" : "A"}`;
  const [armB] = document.querySelectorAll('[data-take="arch-b"]');
  armB.disabled = !state.hasB;
}

function showLayers(config) {
  const only = (list) => (new Set(list).size === 1 ? list[0] : "");
  const mixed = (value) => (value ? [] : [["", "(mixed)"]]);
  const mixing = only(config.attention.flat());
  const activation = only(config.activation);
  const norm = only(config.norm);
  const mixings = onceFor("mixing", config, () =>
    pricedOptions(mixingNames(data, config.family), mixingTemplates));
  const mode = config.plan ? "folded" : "plain";
  const activations = onceFor("activation", config, () =>
    pricedOptions(Object.keys(data.activations), (name) => data.mlp[mode][name]));
  fillMenu(find("all-attention"), [...mixed(mixing), ...mixings], mixing);
  fillMenu(find("all-activation"), [...mixed(activation), ...activations], activation);
  fillMenu(find("all-norm"), [...mixed(norm), ...normNames(data, config.family)], norm);
  if (!mixingNames(data, config.family).includes(state.brush)) state.brush = "softmax";
  const key = [config.family, packConfig(config).split("~").slice(6), config.n_heads,
    state.brush, state.edit].join("~");
  const table = find("layers");
  if (table.dataset.key === key) return;
  table.dataset.key = key;
  clearTimeout(layersLater);
  const isSliding = document.activeElement && document.activeElement.type === "range";
  if (isSliding) layersLater = setTimeout(() => fillLayers(config), 150);
  else fillLayers(config);
}

let layersLater = 0; // many buttons: they wait until a slider stands still

function fillLayers(config) {
  find("layers").innerHTML = '<div class="control pick"><label for="brush">Paint with</label>' +
    `<select id="brush">${layerOptions(mixingNames(data, config.family), state.brush)}` +
    `</select></div>${layersHtml(data, config, state.brush)}`;
}

function bindTaking() {
  find("figures").addEventListener("click", ({ target }) => {
    const { figure, kind } = target.dataset || {};
    if (!figure) return;
    const name = `mpcprof-${figure}.${kind}`;
    if (kind === "csv") download(name, "text/csv", csvOf(tables[figure]()));
    else {
      const drawn = figureSvg(find(`figure-${figure}`));
      if (kind === "svg") download(name, "image/svg+xml", drawn.text);
      else downloadPng(name, drawn);
    }
  });
  find("figures").addEventListener("toggle", ({ target }) => {
    if (target.dataset.table) showTable(target.dataset.table);
  }, true);
  find("take-buttons").addEventListener("click", ({ target }) => {
    if (target.dataset.take) take(target.dataset.take);
  });
}

function take(kind) {
  const shown = drawnResults();
  const byOperation = () => operationTable(shown, state.network);
  const texts = {
    md: () => [markdownOf(summaryTable()), markdownOf(roundedTable(byOperation()))].join("\n"),
    tex: () => [
      latexOf(summaryTable(), "Predicted latency of a private inference"),
      latexOf(roundedTable(byOperation()), "Predicted latency by operation"),
    ].join("\n"),
    csv: () => csvOf(byOperation()),
  };
  if (kind === "link") {
    const address = location.href.split("#")[0] + writeAddress();
    const say = (text) => (find("taken").textContent = text);
    const isCopied = navigator.clipboard
      ? navigator.clipboard.writeText(address) : Promise.reject(new Error("none"));
    isCopied.then(() => say("Copied the address, which holds all choices."),
      () => say(`The address holds all choices: ${address}`));
  } else if (kind.startsWith("arch")) {
    const config = state[kind.slice(-1)];
    download("arch.json", "application/json",
      JSON.stringify(architectureDocument(data, config), null, 1) + "\n");
  } else {
    download(`mpcprof.${kind}`, "text/plain", texts[kind]());
  }
}
