// The steps of a network: traced templates with sizes put in, heads grouped, products
// put together as mpcprof/nn/rewrite.py and plan.py do.

const MOST_TOGETHER = 64;

// Return templates as lists of {operation, part, axes, count}.
function readTemplates(data) {
  return data.templates.map((text) => !text ? [] : text.split(";").map((step) => {
    const [operation, part, axes, count] = step.split(" ");
    return { operation, part, axes: axes.split(",").map(readAxis), count: readAxis(count) };
  }));
}

function readAxis(text) {
  const [, number, letters] = /^(\d*)([A-Z]*)$/.exec(text);
  return { number: Number(number || 1), letters: [...letters] };
}

function valueOf({ number, letters }, sizes) {
  return letters.reduce((all, letter) => all * sizes[letter], number);
}

function sized(axes, sizes) {
  return axes.map((axis) => valueOf(axis, sizes));
}

// Ways to put g products of (P, Q) and (Q, R) into one: `product_forms`.
const FORMS = [
  { sides: (g) => [g, g], result: (g) => g * g },
  { sides: (g) => [g * g, g], result: (g) => g },
  { sides: (g) => [g, g * g], result: (g) => g },
];

function formBytes(form, g, [p, q, r], [sideBytes, resultBytes]) {
  const [left, right] = form.sides(g);
  const sides = left * p * q + right * q * r;
  return sideBytes * sides + resultBytes * form.result(g) * p * r;
}

// Return the number of the form that sends the fewest bytes.
function cheapestForm(g, sizes, price) {
  const bytes = FORMS.map((form) => formBytes(form, g, sizes, price));
  return bytes.indexOf(Math.min(...bytes));
}

// Return a batch of products in groups, [operation, size, count]: `grouped` of rewrite.py.
function grouped([n, p, q, r], nTogether, price, forms) {
  if (n === 1 || nTogether === 1) return [["matmul", [n, p, q, r], 1]];
  const whole = Math.floor(n / nTogether);
  const rest = n - whole * nTogether;
  const steps = [];
  for (const [g, nGroups] of [[nTogether, whole], [rest, 1]]) {
    if (!g || !nGroups) continue;
    if (n > nTogether) {
      for (const side of [p * q, q * r]) steps.push([LOCAL, [g * side], nGroups]);
    }
    if (g === 1) {
      steps.push(["matmul", [1, p, q, r], nGroups]);
      continue;
    }
    const sizes = { G: g, P: p, Q: q, R: r };
    for (const { operation, axes, count } of forms[cheapestForm(g, [p, q, r], price)]) {
      steps.push([operation, sized(axes, sizes), nGroups * valueOf(count, sizes)]);
    }
  }
  if (n > nTogether) steps.push([LOCAL, [n * p * r], 1]);
  return steps;
}

// Return the hops and the bytes of products in groups: what `products_s` waits for.
function productsCost([n, p, q, r], nTogether, price) {
  const nGroups = Math.ceil(n / nTogether);
  const g = Math.min(nTogether, n);
  const form = FORMS[cheapestForm(g, [p, q, r], price)];
  const bytes = nGroups * formBytes(form, g, [p, q, r], price);
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
    const moved = Math.max(Math.floor(net.width / this.data.shift_parts), 1);
    const side = Math.sqrt(net.n_tokens); // of a grid; without one nothing has this size
    return {
      N: net.n_tokens, P: net.n_inputs, B: net.n_batch, H: net.n_heads,
      K: net.width / net.n_heads, D: net.width, F: net.hidden, I: net.input_dim,
      C: net.n_classes, R: Math.ceil(net.n_tokens / this.data.linformer_ratio),
      S: side, T: side + 2, W: moved, X: net.width - 4 * moved,
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
        .filter((step) => step.operation === "matmul")
        .map((step) => sized(step.axes, own));
    });
  }

  // Return the different steps of a network and their counts, in order: `trace_model`.
  trace(net, price, together) {
    const family = this.data.families[net.family];
    const mode = !net.plan ? "plain" : this.isCentred(net) ? "centred" : "folded";
    const norms = family.modes[mode];
    const isPruned = net.plan && family.reads_one_token;
    const forms = this.data.forms.map((number) => this.templates[number]);
    const steps = new Steps(this.templates, this.sizesOf(net), price, forms);
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

  hasBias(net, layer) {
    return net.plan || this.data.families[net.family].has_qkv_bias ||
      this.data.norms[net.norm[layer]].is_folded;
  }

  mix(steps, net, layer, place, where, nTogether) {
    const heads = net.attention[layer];
    if (this.isMixer(heads[0])) {
      const own = this.data.families[net.family].mixers[heads[0]][net.plan ? 1 : 0];
      steps.add(own[Math.min(net.width, own.length) - 1][place], where);
      return;
    }
    const around = this.data.around_heads;
    const add = (name, nHeads) => steps.add(around[name][place], where, nHeads);
    add(this.hasBias(net, layer) ? "qkv_bias" : "qkv");
    add(heads.length === 1 ? "alone" : "serial");
    for (const group of groupHeads(heads, net.heads === "batched")) {
      if (group.length > 1) add("together", group.length);
      const own = this.attention(heads[group[0]], steps.sizes, net.plan);
      steps.add(own[place], where, group.length, nTogether);
    }
    add("projection");
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
  constructor(templates, sizes, price, forms) {
    this.templates = templates;
    this.sizes = sizes;
    this.price = price;
    this.forms = forms;
    this.found = new Map();
  }

  // Add the steps of a template, of so many heads together, and products of a batch.
  add(number, where, nHeads = 0, nTogether = 1) {
    const sizes = nHeads ? { ...this.sizes, H: nHeads } : this.sizes;
    for (const { operation, part, axes, count } of this.templates[number]) {
      const [size, n] = [sized(axes, sizes), valueOf(count, sizes)];
      const steps = operation === "matmul" && nHeads
        ? grouped(size, nTogether, this.price, this.forms) : [[operation, size, 1]];
      for (const [name, one, each] of steps) this.count(name, one, where + part, n * each);
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
