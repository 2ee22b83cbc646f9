// What a person chose: a deployment, sizes and layers; as a network, a file, an address.

const NORMAL = { attention: "softmax", activation: "gelu_tanh", norm: "layernorm" };
const LIMITS = {
  n_batch: [1, 1024], n_heads: [1, 64], n_layers: [1, 48], width: [1, 4096],
  hidden: [1, 16384], side: [1, 64], n_tokens: [2, 4096], n_classes: [1, 100000],
};

function isImage(data, config) {
  return data.models[config.model].image_size > 0;
}

// Return the configuration of a preset, the same in every layer.
function presetConfig(data, profile, model, choices = {}) {
  const preset = data.models[model];
  const own = { ...NORMAL, ...choices };
  const config = {
    profile,
    model,
    family: preset.family,
    n_layers: preset.n_layers,
    n_heads: preset.n_heads,
    width: preset.width,
    hidden: Math.round(preset.width * preset.mlp_ratio),
    side: preset.patch ? preset.image_size / preset.patch : 0,
    n_tokens: preset.n_embeddings,
    n_classes: preset.n_classes,
    n_batch: 1,
    heads: own.heads || "batched",
    plan: Boolean(own.plan),
    attention: [],
    activation: [],
    norm: [],
  };
  return withLayers(data, config, preset.n_layers, own);
}

// Return the configuration with so many layers; new ones are like the last one.
function withLayers(data, config, nLayers, choices = NORMAL) {
  const fit = (list, made) =>
    Array.from({ length: nLayers }, (_, i) => list[i] || list[list.length - 1] || made);
  const heads = data.mixers[choices.attention]
    ? [choices.attention]
    : Array(config.n_heads).fill(choices.attention);
  return {
    ...config,
    n_layers: nLayers,
    attention: fit(config.attention, heads).map((one) => [...one]),
    activation: fit(config.activation, choices.activation),
    norm: fit(config.norm, choices.norm),
  };
}

// Return the configuration with so many heads; width stays a multiple of them.
function withHeads(data, config, nHeads) {
  const width = Math.max(Math.round(config.width / nHeads), 1) * nHeads;
  return {
    ...config,
    n_heads: nHeads,
    width,
    attention: config.attention.map((heads) => data.mixers[heads[0]]
      ? heads
      : Array.from({ length: nHeads }, (_, i) => heads[i] || heads[heads.length - 1])),
  };
}

// Return the mixing that a layer of the family may have.
function mixingNames(data, family) {
  return [...Object.keys(data.attention), ...Object.keys(data.families[family].mixers)];
}

function normNames(data, family) {
  return Object.keys(data.families[family].modes.plain);
}

// Return the configuration with what its family does not have replaced.
function withFamily(data, config, family) {
  const mixing = new Set(mixingNames(data, family));
  const norms = new Set(normNames(data, family));
  return {
    ...config,
    family,
    attention: config.attention.map((heads) =>
      mixing.has(heads[0]) ? heads : Array(config.n_heads).fill(NORMAL.attention)),
    norm: config.norm.map((name) => (norms.has(name) ? name : NORMAL.norm)),
  };
}

// Return the sizes and choices that steps are made of.
function networkOf(data, config) {
  const preset = data.models[config.model];
  const isOfImages = isImage(data, config);
  const nPatches = config.side ** 2;
  const nTokens = isOfImages
    ? nPatches + (config.family === "class_token" ? 1 : 0)
    : config.n_tokens;
  const nRows = preset.n_words + preset.n_types;
  const inputDim = isOfImages
    ? preset.patch ** 2 * preset.n_channels
    : config.family === "one_hot" ? nRows : config.width;
  return {
    family: config.family,
    n_batch: config.n_batch,
    n_heads: config.n_heads,
    width: config.width,
    hidden: config.hidden,
    n_tokens: nTokens,
    n_inputs: isOfImages ? nPatches : nTokens,
    input_dim: inputDim,
    n_classes: config.n_classes,
    n_words: preset.n_words,
    n_types: preset.n_types,
    heads: config.heads,
    plan: config.plan,
    attention: config.attention,
    activation: config.activation,
    norm: config.norm,
  };
}

// Return whether all sizes but layers and classes (and a text's length) are the preset's.
function hasPresetSizes(data, config) {
  const usual = presetConfig(data, config.profile, config.model);
  const keys = ["n_heads", "width", "hidden", "side"];
  const isUsual = keys.every((key) => config[key] === usual[key]);
  return isUsual && (!isImage(data, config) || config.family === usual.family);
}

function modelName(data, config) {
  return hasPresetSizes(data, config) ? config.model : "own";
}

// Return the document of `architecture.json`, which every command reads.
function architectureDocument(data, config) {
  const preset = data.models[config.model];
  const isOne = new Set(config.norm).size === 1;
  const sizes = { model: modelName(data, config), n_layers: config.n_layers };
  sizes.n_classes = config.n_classes;
  if (!hasPresetSizes(data, config)) {
    for (const key of ["n_heads", "width", "hidden"]) sizes[key] = config[key];
    if (isImage(data, config)) {
      sizes.image_size = config.side * preset.patch;
      sizes.patch = preset.patch;
      sizes.n_channels = preset.n_channels;
      sizes.pooling = config.family;
    } else {
      sizes.pooling = "first";
      sizes.qkv_bias = true;
      sizes.norm_order = "post";
      sizes.norm_epsilon = 1e-12;
      sizes.n_words = preset.n_words;
      sizes.n_types = preset.n_types;
      sizes.pooler = true;
    }
  }
  if (!isImage(data, config)) {
    sizes.n_tokens = config.n_tokens;
    sizes.embedding = config.family;
  }
  return {
    schema_version: 1,
    ...sizes,
    heads: config.heads,
    attention: config.attention,
    activation: config.activation,
    norm: isOne ? config.norm[0] : config.norm,
  };
}

// Return the preset whose inputs a file of its own sizes has.
function baseModel(data, file) {
  const isText = Boolean(file.n_words);
  const name = Object.keys(data.models).find((one) => {
    const preset = data.models[one];
    if (isText) return preset.n_words === file.n_words && preset.n_types === file.n_types;
    return preset.patch === file.patch && preset.n_channels === (file.n_channels ?? 3);
  });
  if (!name) {
    throw isText ? "its vocabulary is that of no preset on this page"
      : `patch=${file.patch} is that of no preset on this page`;
  }
  return name;
}

// Return the configuration of an `architecture.json`; throws a text where it cannot.
function configOfArchitecture(data, text, own) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw "it is no JSON";
  }
  if (!file || !Array.isArray(file.attention) || !Array.isArray(file.activation)) {
    throw "it has no attention and activation of each layer";
  }
  const model = file.model in data.models ? file.model : baseModel(data, file);
  const usual = presetConfig(data, own.profile, model);
  const { patch } = data.models[model];
  if ((file.patch ?? patch) !== patch) throw `patch=${file.patch}, ${model} has ${patch}`;
  if (file.stem || file.head_dim > 0 && file.head_dim * file.n_heads !== file.width) {
    throw "a stem, or heads of a width of their own, are not on this page";
  }
  if (Array.isArray(file.mlp_ratio) || Array.isArray(file.hidden)) {
    throw "MLPs of a width of their own in each layer are not on this page";
  }
  const width = file.width ?? usual.width;
  const ratio = file.mlp_ratio ?? data.models[model].mlp_ratio;
  const isOfImages = isImage(data, { model });
  const norm = file.norm ?? NORMAL.norm;
  const nLayers = file.attention.length;
  const config = {
    ...usual,
    family: (isOfImages ? file.pooling : file.embedding) ?? usual.family,
    n_layers: nLayers,
    n_heads: file.n_heads ?? usual.n_heads,
    width,
    hidden: file.hidden ?? Math.round(width * ratio),
    side: isOfImages && file.image_size ? file.image_size / patch : usual.side,
    n_tokens: isOfImages ? usual.n_tokens : file.n_tokens ?? usual.n_tokens,
    n_classes: file.n_classes ?? usual.n_classes,
    n_batch: own.n_batch,
    heads: file.heads ?? "serial",
    plan: own.plan,
    attention: file.attention,
    activation: file.activation,
    norm: Array.isArray(norm) ? norm : Array(nLayers).fill(norm),
  };
  if ([...file.attention.flat(), ...file.activation].some(Array.isArray)) {
    throw "rows or tokens of their own kind are not on this page";
  }
  if (!(config.family in data.families)) throw `“${config.family}” is unknown here`;
  checkConfig(data, config);
  return config;
}

// Return the command that prints the same price, and whether it needs arch.json.
function predictCommand(data, config, { network, perHour, perGB }) {
  const one = (list) => (new Set(list.flat()).size === 1 ? list.flat()[0] : null);
  const [attention, activation, norm] =
    [one(config.attention), one(config.activation), one(config.norm)];
  const preset = data.models[config.model];
  const isUniform = hasPresetSizes(data, config) && attention && activation && norm &&
    config.n_classes === preset.n_classes && config.n_tokens <= 512; // BERT's positions
  const words = ["mpcprof predict", data.profiles[config.profile].argument];
  if (isUniform) {
    words.push(`--model ${config.model}`, `--attention ${attention}`);
    if (activation !== NORMAL.activation) words.push(`--activation ${activation}`);
    if (norm !== NORMAL.norm) words.push(`--norm ${norm}`);
    if (config.n_layers !== preset.n_layers) words.push(`--layers ${config.n_layers}`);
    if (preset.n_words) words.push(`--tokens ${config.n_tokens}`);
    if (config.family === "one_hot") words.push("--embedding one_hot");
  } else {
    words.push("--attention arch.json");
  }
  words.push(`--heads ${config.heads}`);
  if (config.plan) words.push("--plan rewrites");
  if (config.n_batch > 1) words.push(`--batch ${config.n_batch}`);
  words.push(`--network ${formatNetwork(network)}`);
  if (perHour) words.push(`--price-per-hour ${formatG(perHour, 9)}`);
  if (perGB) words.push(`--price-per-GB ${formatG(perGB, 9)}`);
  return { text: words.join(" "), needsFile: !isUniform };
}

// Write equal neighbours once, `softmax*4`, between dots.
function packNames(names) {
  const runs = [];
  for (const name of names) {
    const last = runs[runs.length - 1];
    if (last && last[0] === name) last[1]++;
    else runs.push([name, 1]);
  }
  return runs.map(([name, n]) => (n > 1 ? `${name}*${n}` : name)).join(".");
}

function unpackNames(text) {
  return text.split(".").flatMap((run) => {
    const [name, n] = run.split("*");
    const count = n === undefined ? 1 : Number(n);
    if (!(count >= 1 && count <= 1000)) throw `“${run}” in the address`;
    return Array(count).fill(name);
  });
}

const ADDRESS_NUMBERS = [
  "n_layers", "n_heads", "width", "hidden", "side", "n_tokens", "n_classes", "n_batch",
];

function packConfig(config) {
  return [
    config.profile, config.model, config.family,
    ADDRESS_NUMBERS.map((key) => config[key]).join("."),
    config.heads, config.plan ? "rewrites" : "plain",
    packNames(config.attention.map((heads) => packNames(heads).replaceAll(".", "!")
      .replaceAll("*", "^"))),
    packNames(config.activation), packNames(config.norm),
  ].join("~");
}

// Read what `packConfig` wrote; throws a text where it does not fit this page.
function unpackConfig(data, text) {
  const [profile, model, family, numbers, heads, plan, attention, activation, norm] =
    text.split("~");
  if (!(profile in data.profiles)) throw `profile “${profile}” is not on this page`;
  if (!(model in data.models)) throw `model “${model}” is not on this page`;
  const of = isImage(data, { model }) ? ["class_token", "mean"] : ["client", "one_hot"];
  if (!of.includes(family)) throw `“${family}” is no kind of ${model}`;
  const config = { profile, model, family, heads, plan: plan === "rewrites" };
  String(numbers).split(".").forEach((number, i) => {
    config[ADDRESS_NUMBERS[i]] = Number(number);
  });
  config.attention = unpackNames(String(attention)).map((layer) =>
    unpackNames(layer.replaceAll("!", ".").replaceAll("^", "*")));
  config.activation = unpackNames(String(activation));
  config.norm = unpackNames(String(norm));
  checkConfig(data, config);
  return config;
}

// Refuse a configuration that cannot be priced: throws a text.
function checkConfig(data, config) {
  for (const [key, [least, most]] of Object.entries(LIMITS)) {
    const isUsed = key === "side" ? isImage(data, config)
      : key === "n_tokens" ? !isImage(data, config) : true;
    const value = config[key];
    if (isUsed && !(Number.isInteger(value) && value >= least && value <= most)) {
      throw `${key} is ${value}: expected ${least} to ${most}`;
    }
  }
  if (config.width % config.n_heads) {
    throw `width ${config.width} is no multiple of ${config.n_heads} heads`;
  }
  if (!["serial", "batched"].includes(config.heads)) throw `heads “${config.heads}”`;
  const mixing = mixingNames(data, config.family);
  const lists = [
    [config.attention.flat(), mixing],
    [config.activation, Object.keys(data.activations)],
    [config.norm, normNames(data, config.family)],
  ];
  for (const [names, known] of lists) {
    for (const name of names) if (!known.includes(name)) throw `“${name}” is unknown here`;
  }
  for (const list of [config.attention, config.activation, config.norm]) {
    if (list.length !== config.n_layers) throw "layers do not fit their number";
  }
  for (const heads of config.attention) {
    const expected = data.mixers[heads[0]] ? 1 : config.n_heads;
    if (heads.length !== expected) throw "heads do not fit their number";
  }
}
