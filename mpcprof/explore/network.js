// The steps of a network: traced templates with sizes put in, heads grouped, products
// put together as mpcprof/nn/rewrite.py and plan.py do.

const MOST_TOGETHER = 64;

// Return templates as lists of {operation, part, axes}.
function readTemplates(data) {
  return data.templates.map((text) => !text ? [] : text.split(";").map((step) => {
    const [operation, part, axes] = step.split(" ");
    return { operation, part, axes: axes.split(",").map(readAxis) };
  }));
}

function readAxis(text) {
  const [, number, letters] = /^(\d*)([A-Z]*)$/.exec(text);
  return { number: Number(number || 1), letters: [...letters] };
}

function sized(axes, sizes) {
  return axes.map(({ number, letters }) =>
    letters.reduce((all, letter) => all * sizes[letter], number));
}

// Ways to put g products of (P, Q) and (Q, R) into one.
const FORMS = [
  { sides: (g) => [g, g], result: (g) => g * g,
    size: (g, p, q, r) => [1, g * p, q, g * r] },
  { sides: (g) => [g * g, g], result: (g) => g,
    size: (g, p, q, r) => [1, g * p, g * q, r] },
  { sides: (g) => [g, g * g], result: (g) => g,
    size: (g, p, q, r) => [1, p, g * q, g * r] },
];

function formBytes(form, g, [p, q, r], [sideBytes, resultBytes]) {
  const [left, right] = form.sides(g);
  const sides = left * p * q + right * q * r;
  return sideBytes * sides + resultBytes * form.result(g) * p * r;
}

function cheapestForm(g, sizes, price) {
  let best = FORMS[0];
  for (const form of FORMS.slice(1)) {
    if (formBytes(form, g, sizes, price) < formBytes(best, g, sizes, price)) best = form;
  }
  return best;
}

// Return the sizes of a batch of products in groups, with how many there are of each.
function grouped([n, p, q, r], nTogether, price) {
  if (n === 1 || nTogether === 1) return [[[n, p, q, r], 1]];
  const whole = Math.floor(n / nTogether);
  const rest = n - whole * nTogether;
  const sizes = [];
  for (const [g, count] of [[nTogether, whole], [rest, rest ? 1 : 0]]) {
    if (!count) continue;
    const one = g === 1
      ? [1, p, q, r]
      : cheapestForm(g, [p, q, r], price).size(g, p, q, r);
    sizes.push([one, count]);
  }
  return sizes;
}

// Return the hops and the bytes of products in groups: what `products_s` waits for.
function productsCost([n, p, q, r], nTogether, price) {
  const nGroups = Math.ceil(n / nTogether);
  const g = Math.min(nTogether, n);
  const bytes = nGroups * formBytes(cheapestForm(g, [p, q, r], price), g, [p, q, r], price);
  return [nGroups * price[2], bytes];
}

class Networks {
  constructor(data) {
    this.data = data;
    this.templates = readTemplates(data);
    this.together = new WeakMap(); // of a network: costs of products put together
  }

  isMixer(name) {
    return name in this.data.mixers;
  }

  sizesOf(net) {
    return {
      N: net.n_tokens, P: net.n_inputs, B: net.n_batch, H: net.n_heads,
      K: net.width / net.n_heads, D: net.width, F: net.hidden, I: net.input_dim,
      C: net.n_classes, R: Math.ceil(net.n_tokens / this.data.linformer_ratio),
    };
  }

  // Return the variant's templates for heads of that width: see templates.py.
  attention(name, sizes, isFolded) {
    const { plain, folded } = this.data.attention[name];
    if (!isFolded) return plain[0];
    return folded[sizes.K < sizes.R ? 0 : sizes.K < sizes.N ? 1 : 2];
  }

  isCentred(net) {
    return !this.data.families[net.family].is_post_norm &&
      net.norm.every((name) => !this.data.norms[name].is_folded) &&
      net.attention.every((heads) => !this.isMixer(heads[0]));
  }

  // Return how many products each layer puts into one: `rewrites_only` of plan.py.
  nTogether(net, price, network) {
    if (!this.together.has(net)) this.together.set(net, new Map());
    const known = this.together.get(net);
    const found = new Map();
    return net.attention.map((heads) => {
      const key = `${heads} ${price}`;
      if (!known.has(key)) known.set(key, this.togetherCosts(net, heads, price));
      if (!found.has(key)) found.set(key, cheapestTogether(known.get(key), network));
      return found.get(key);
    });
  }

  // Return what each number of products together costs each product of a layer.
  togetherCosts(net, heads, price) {
    const sizes = this.productsOf(net, heads).filter((size) => size[0] > 1);
    if (!sizes.length) return [];
    const most = Math.min(Math.max(...sizes.map((size) => size[0])), MOST_TOGETHER);
    return Array.from({ length: most }, (_, i) =>
      sizes.map((size) => productsCost(size, i + 1, price)));
  }

  // Return the sizes of the products of a layer's heads, batched by variant.
  productsOf(net, heads) {
    if (this.isMixer(heads[0])) return [];
    const sizes = this.sizesOf(net);
    return groupHeads(heads, true).flatMap((group) => {
      const own = { ...sizes, H: group.length };
      const [inner] = this.attention(heads[group[0]], sizes, true);
      return this.templates[inner]
        .filter((step) => step.operation === "matmul" && isOfVariant(step.part))
        .map((step) => sized(step.axes, own));
    });
  }

  // Return the different steps of a network and their counts, in order: `trace_model`.
  trace(net, price, together) {
    const family = this.data.families[net.family];
    const mode = !net.plan ? "plain" : this.isCentred(net) ? "centred" : "folded";
    const norms = family.modes[mode];
    const isPruned = net.plan && family.reads_one_token;
    const steps = new Steps(this.templates, this.sizesOf(net), price);
    const nLayers = net.attention.length;
    steps.add(norms[net.norm[0]].embedding, "");
    for (let layer = 0; layer < nLayers; layer++) {
      const where = `layer ${layer + 1}/`;
      const place = isPruned && layer === nLayers - 1 ? 1 : 0;
      const norm = norms[net.norm[layer]];
      for (const slot of family.order) {
        if (slot === "mixing") {
          this.mix(steps, net, layer, place, where, together ? together[layer] : 1);
        } else if (slot === "mlp") {
          steps.add(this.data.mlp[mode][net.activation[layer]][place], where);
        } else if (slot === "norm2" || this.takesNorm(net, layer)) {
          steps.add(norm[slot][place], where);
        }
      }
    }
    steps.add(norms[net.norm[nLayers - 1]].head, "");
    return steps.list();
  }

  takesNorm(net, layer) {
    const mixer = this.data.mixers[net.attention[layer][0]];
    return !mixer || mixer.takes_scale || this.data.families[net.family].is_post_norm;
  }

  mix(steps, net, layer, place, where, nTogether) {
    const heads = net.attention[layer];
    const isFolded = net.plan;
    if (this.isMixer(heads[0])) {
      const own = this.data.families[net.family].mixers[heads[0]];
      steps.add(own[isFolded ? 1 : 0][place], where);
      return;
    }
    const groups = groupHeads(heads, net.heads === "batched");
    const templateOf = (group) =>
      this.attention(heads[group[0]], steps.sizes, isFolded)[place];
    const first = templateOf(groups[0]);
    steps.add(first, where, (part) => part === "attention/qkv");
    for (const group of groups) {
      steps.add(templateOf(group), where, isOfVariant, group.length, nTogether);
    }
    steps.add(first, where, (part) => part === "attention/projection");
  }
}

// Return the first number of products together that waits least for the network.
function cheapestTogether(costs, network) {
  let best = 1;
  let leastS = Infinity;
  costs.forEach((products, i) => {
    let seconds = 0;
    for (const [hops, bytes] of products) {
      seconds += (hops * network.rtt_s) / 2 + bytes / network.bandwidth;
    }
    if (seconds < leastS) [best, leastS] = [i + 1, seconds];
  });
  return best;
}

function isOfVariant(part) {
  return part !== "attention/qkv" && part !== "attention/projection";
}

// Return the numbers of the heads that are computed together.
function groupHeads(heads, isBatched) {
  const groups = new Map();
  heads.forEach((name, head) => {
    const key = isBatched ? name : head;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(head);
  });
  return [...groups.values()];
}

class Steps {
  constructor(templates, sizes, price) {
    this.templates = templates;
    this.sizes = sizes;
    this.price = price;
    this.found = new Map();
  }

  // Add the steps of a template whose part is wanted, for so many heads together.
  add(number, where, isWanted = () => true, nHeads = 0, nTogether = 1) {
    const sizes = nHeads ? { ...this.sizes, H: nHeads } : this.sizes;
    for (const { operation, part, axes } of this.templates[number]) {
      if (!isWanted(part)) continue;
      const size = sized(axes, sizes);
      if (operation === "matmul" && nHeads) {
        for (const [one, count] of grouped(size, nTogether, this.price)) {
          this.count(operation, one, where + part, count);
        }
      } else {
        this.count(operation, size, where + part, 1);
      }
    }
  }

  count(operation, size, part, count) {
    const key = `${part} ${operation} ${size}`;
    const known = this.found.get(key);
    if (known) known.count += count;
    else this.found.set(key, { operation, size, part, count });
  }

  list() {
    return [...this.found.values()];
  }
}

// Price a network on a link: what `mpcprof predict` prints of it.
class Pricer {
  constructor(data) {
    this.data = data;
    this.networks = new Networks(data);
    this.models = new Map();
    this.priced = new WeakMap(); // of a network: steps by how products are put together
  }

  model(name) {
    if (!this.models.has(name)) {
      this.models.set(name, new CostModel(this.data, this.data.profiles[name]));
    }
    return this.models.get(name);
  }

  // Return the priced steps; the network between parties matters to a plan alone.
  steps(name, net, network) {
    const model = this.model(name);
    const price = model.profile.product_price;
    const together = net.plan ? this.networks.nTogether(net, price, network) : null;
    const key = `${name} ${together}`;
    if (!this.priced.has(net)) this.priced.set(net, new Map());
    const known = this.priced.get(net);
    if (!known.has(key)) {
      known.set(key, model.price(this.networks.trace(net, price, together)));
    }
    return known.get(key);
  }

  // Add up the steps of equal costs, whichever part they are of.
  condensed(model, priced) {
    const found = new Map();
    for (const { costs, n } of priced) found.set(costs, (found.get(costs) || 0) + n);
    const steps = [...found].map(([costs, n]) => ({ costs, n }));
    return { start: model.start(priced), steps };
  }

  predict(name, net, network) {
    const model = this.model(name);
    const priced = this.steps(name, net, network);
    const whole = model.predict(priced, network);
    if (net.n_words) whole.notes.push(embeddingNote(model, net, priced, network, whole));
    if (model.profile.has_local) {
      whole.notes.push("local steps (additions, cuts) are left out of this page, as if " +
        "they took no time; mpcprof predict adds them");
    }
    whole.priced = priced;
    return whole;
  }

  // Return a function of a network to seconds, quick enough for a curve.
  curve(name, net) {
    const model = this.model(name);
    const known = new Map();
    return (network) => {
      const priced = this.steps(name, net, network);
      if (!known.has(priced)) known.set(priced, this.condensed(model, priced));
      const { start, steps } = known.get(priced);
      return model.latencyS(start, steps, network);
    };
  }
}


// Say what the embedding of words costs, or what the client must hold for it.
function embeddingNote(model, net, priced, network, whole) {
  const nRows = net.n_words + net.n_types;
  if (net.family !== "one_hot") {
    return (
      `the client looks words up, so it holds the table of ${nRows} x ${net.width}, ` +
      "which is no secret to it then; --embedding one_hot keeps it secret"
    );
  }
  const own = model.predict(
    priced.filter((one) => one.part === "embedding"), network, false);
  const share = (100 * own.total_bytes_sent) / whole.total_bytes_sent;
  return (
    `the one-hot product with ${nRows} rows sends ` +
    `${formatBytes(own.total_bytes_sent, 3)}, ${Math.round(share)}% of all, in ` +
    `${formatDuration(own.latency_s, 3)}, besides the rows that the client shares; ` +
    "--embedding client looks words up instead"
  );
}
