// The cost model: steps of any size, on any network. One to one with
// mpcprof/costmodel/features.py, fit.py, refills.py and model.py, and named the same.

const ROW_OPERATIONS = ["max", "sum"];
const PRODUCT_OPERATIONS = ["matmul"];
const OPENING = ["mul", "square"]; // begin with what both parties open
const LOCAL = "local";
const SILENT = [LOCAL, "sum"];
const BASES = ["measured", "interpolated", "extrapolated"];
const FAR = 10;
const TRUSTED_REACH = 2;
const LINK_TOLERANCE = 0.03;

function volume(size) {
  if (size.length === 1) return size[0];
  if (size.length === 2) return size[0] * Math.max(size[1] - 1, 0);
  return size[1] * size[2] * size[3];
}

function bitLength(n) {
  return 32 - Math.clz32(n);
}

function bitCount(n) {
  let count = 0;
  for (; n; n = Math.floor(n / 2)) count += n % 2;
  return count;
}

function product(size) {
  return size.reduce((all, one) => all * one, 1);
}

class Features {
  constructor(data) {
    this.degree = data.polynomial_degree;
    [this.chunkBytes, this.chunksAtOnce] = data.pauses;
    this.packings = new Map();
    this.values = {
      one: () => 1,
      volume,
      n_rows: (size) => size[0],
      row_length: (size) => size[1],
      levels: (size) => Math.max(bitLength(size[1]) + bitCount(size[1]) - 2, 0),
      log2: (size) => bitLength(Math.max(size[1] - 1, 0)),
      pq: (size) => size[1] * size[2],
      qr: (size) => size[2] * size[3],
      pr: (size) => size[1] * size[3],
      n_batches: (size) => this.nBatches(volume(size)),
      n_long_batches: (size) =>
        this.isLong(volume(size)) ? this.nBatches(volume(size)) : 0,
      n_stocked: (size) => (this.isLong(volume(size)) ? 0 : volume(size)),
      waiting_share: (size) => this.waitingShare(volume(size)),
    };
  }

  // Return the value of a feature, such as `above:8450`, at a size.
  value(feature, size) {
    const [name, knot] = feature.split(":");
    if (name === "below") return Math.min(volume(size), Number(knot));
    if (name === "above") return Math.max(volume(size) - Number(knot), 0);
    if (name === "pauses") {
      return this.sharedEntries(size).reduce(
        (all, n) => all + this.nPauses(n * Number(knot)), 0);
    }
    const plain = this.values[name];
    return plain ? plain(size) : this.pack(size[1], size[2], size[3])[name];
  }

  // Return the value of a fitted function: its denominator, then its terms.
  predict([denominator, ...terms], size) {
    let sum = 0;
    for (const [feature, c] of terms) sum += c * this.value(feature, size);
    return sum / denominator;
  }

  nBatches(n) {
    return n <= this.degree ? 1 : 2 * Math.ceil(n / (2 * this.degree));
  }

  isLong(n) {
    return n >= 2 * this.degree;
  }

  waitingShare(n) {
    if (this.isLong(n)) return 1;
    const half = this.degree / 2;
    return n / (Math.max(Math.ceil(n / half), 1) * half);
  }

  nPauses(messageBytes) {
    const nChunks = Math.ceil(messageBytes / this.chunkBytes);
    return Math.floor(Math.max(nChunks - 1, 0) / this.chunksAtOnce);
  }

  sharedEntries(size) {
    if (size.length === 4) return [size[1] * size[2] + size[2] * size[3]];
    if (size.length === 2) {
      const shared = [];
      for (let halving = 1; halving < bitLength(size[1]); halving++) {
        shared.push(size[0] * (size[1] >> halving));
      }
      for (let tail = bitCount(size[1]); tail; tail--) shared.push(size[0]);
      return shared;
    }
    return [volume(size)];
  }

  pack(p, q, r) {
    const key = `${p},${q},${r}`;
    let packing = this.packings.get(key);
    if (!packing) {
      packing = this.cheapest(p, q, r, true);
      if (packing.n_results <= 1) packing = this.cheapest(p, q, r, false);
      this.packings.set(key, packing);
    }
    return packing;
  }

  // Return the cheapest of all cuts into (rows, inner); of equal ones the last.
  cheapest(p, q, r, isPacked) {
    let least = Infinity;
    let best = [1, 1];
    for (let rows = 1; rows <= Math.min(p, this.degree); rows++) {
      const longest = Math.min(q, Math.floor(this.degree / rows));
      for (let inner = 1; inner <= longest; inner = isPacked ? inner * 2 : inner + 1) {
        const price = this.cutPrice(p, q, r, rows, inner, isPacked);
        if (price <= least) {
          least = price;
          best = [rows, inner];
        }
      }
    }
    return this.cut(p, q, r, best[0], best[1], isPacked);
  }

  cutPrice(p, q, r, rows, inner, isPacked) {
    const columns = Math.min(r, Math.floor(this.degree / (rows * inner)));
    const nRows = Math.ceil(p / rows);
    const nInner = Math.ceil(q / inner);
    const nColumns = Math.ceil(r / columns);
    const nResults = nRows * nColumns;
    const nPacked = Math.ceil(nResults / inner);
    const nAutomorphisms = isPacked ? Math.ceil((p * r) / this.degree) * inner : 0;
    const nSent = Math.min(nRows, nColumns) * nInner;
    return (nSent + nPacked) * 1000 + nAutomorphisms + (nResults * nInner) / 10;
  }

  cut(p, q, r, rows, inner, isPacked) {
    const columns = Math.min(r, Math.floor(this.degree / (rows * inner)));
    const [nRows, nInner] = [Math.ceil(p / rows), Math.ceil(q / inner)];
    const nColumns = Math.ceil(r / columns);
    const nResults = nRows * nColumns;
    return {
      n_sent: Math.min(nRows, nColumns) * nInner,
      n_received: isPacked ? Math.ceil(nResults / inner) : 0,
      n_bare: isPacked ? 0 : nResults,
      n_automorphisms: isPacked ? automorphisms(nResults, inner) : 0,
      n_slots: isPacked ? inner : 0,
      n_products: nResults * nInner,
      n_results: nResults,
      n_encoded: Math.max(nRows, nColumns) * nInner,
    };
  }
}

// Return the automorphisms that pack results into polynomials, level by level.
function automorphisms(nResults, nSlots) {
  let all = 0;
  for (let width = nSlots >> 1; width >= 1; width >>= 1) {
    all += Math.floor(nResults / nSlots) * width + Math.min(nResults % nSlots, width);
  }
  return all;
}

function priceS(network, costs) {
  const transferS = costs.wire_bytes / network.bandwidth;
  return costs.exposed_s +
    Math.max(costs.hidden_s, (costs.hops * network.rtt_s) / 2 + transferS);
}

function makeCosts(numbers, basis = 0, reach = 1) {
  const [bytes_sent, total_bytes_sent, wire_bytes, hops, exposed_s, hidden_s] = numbers;
  return {
    ...{ bytes_sent, total_bytes_sent, wire_bytes, hops, exposed_s, hidden_s },
    ...{ basis, reach },
  };
}

class Refills {
  constructor(data, refills) {
    [this.nUsable, this.bytesSent, this.hops] = data.transfer_round;
    [this.entries, this.nPrimed, this.threadBytes, this.threadHops] = data.threads;
    this.appetites = new Map(Object.entries(refills.appetites));
    this.exposedS = refills.exposed_s;
    this.nProcessors = refills.n_processors;
  }

  nEntries(operation, size) {
    return PRODUCT_OPERATIONS.includes(operation) ? size[1] * size[3] : volume(size);
  }

  // Return what refills add to the numbers of `makeCosts` in the long run.
  meanOfStep(operation, size) {
    const appetite = this.appetites.get(operation);
    if (!appetite || !appetite[2]) return [0, 0, 0, 0, 0, 0];
    const n = this.nEntries(operation, size);
    const rounds = (appetite[0] * n + appetite[1] * n) / this.nUsable;
    const bytes = rounds * this.bytesSent;
    return [bytes / 2, bytes, bytes, rounds * this.hops, rounds * this.exposedS, 0];
  }

  note(priced) {
    if (!this.appetites.size) return [];
    let total = [0, 0];
    let largest = 0;
    for (const { operation, size, n } of priced) {
      const appetite = this.appetites.get(operation);
      if (!appetite) continue;
      const entries = this.nEntries(operation, size);
      total = total.map((all, rank) => all + appetite[rank] * entries * n);
      largest = Math.max(largest, entries);
    }
    const nThreads =
      Math.max(Math.min(this.nProcessors, Math.ceil(largest / this.entries)), 1);
    const shares = total.map((n) => n / nThreads / this.nUsable);
    const sum = (round) => nThreads * (round(shares[0]) + round(shares[1]));
    const [low, high] = [sum(Math.floor), sum(Math.ceil)];
    if (!high) return [];
    const nMore = Math.max(nThreads - this.nPrimed, 0);
    const first = nMore
      ? `; the first call of a session prepares ${nMore} more threads, ` +
        `${formatBytes(nMore * this.threadBytes, 3)} and some ${this.threadHops} hops`
      : "";
    const cost = this.exposedS
      ? `${formatDuration(this.exposedS, 2)} of compute each`
      : "their compute not priced apart, since no calls of the profile tell it";
    const mean = formatG((total[0] + total[1]) / this.nUsable, 3);
    return [
      `oblivious transfers: ${mean} refills a call in the mean, ${low} to ${high} in ` +
      `a single one on ${this.nProcessors} processors, ` +
      `${cost}${first}`,
    ];
  }
}

class MissingEntry extends Error {}

class CostModel {
  constructor(data, profile) {
    this.profile = profile;
    this.features = new Features(data);
    this.refills = new Refills(data, profile.refills);
    this.reference = { bandwidth: profile.reference[0], rtt_s: profile.reference[1] };
    this.known = new Map();
    for (const [operation, sizes] of Object.entries(profile.measured)) {
      for (const [size, numbers] of Object.entries(sizes)) {
        this.known.set(`${operation} ${size}`, makeCosts(numbers));
      }
    }
  }

  // Return the costs of one step; for `matmul`, of one of its products.
  costs(operation, size) {
    const isProduct = PRODUCT_OPERATIONS.includes(operation);
    const one = isProduct ? [1, ...size.slice(1)] : size;
    const key = `${operation} ${one}`;
    let known = this.known.get(key);
    if (!known) this.known.set(key, (known = this.newCosts(operation, one)));
    return known;
  }

  newCosts(operation, size) {
    const fit = this.profile.fits[operation];
    if (!fit) {
      throw new MissingEntry(
        `${this.profile.name} has no record of ${operation} to price it from; ` +
        `${this.profile.sweep_command} --only ${operation} --output PROFILE measures it`
      );
    }
    const predict = (name) => this.features.predict(fit[name], size);
    const reach = Math.max(
      ...fit.limits.map(([axis, most]) => this.features.value(axis, size) / most));
    const exposedS = predict("exposed_s");
    const more = this.refills.meanOfStep(operation, size);
    const [bytes, total, hops] = fit.start;
    const numbers = [
      predict("bytes_sent") - bytes, predict("total_bytes_sent") - total,
      predict("wire_bytes"), predict("hops") - hops,
      exposedS, Math.max(predict("loopback_s") - exposedS, 0),
    ];
    return makeCosts(numbers.map((n, i) => n + more[i]), reach > 1 ? 2 : 1, reach);
  }

  // Return the steps, without the local ones if no record prices them.
  priced(steps) {
    return this.profile.fits[LOCAL] ? steps
      : steps.filter(({ operation }) => operation !== LOCAL);
  }

  // Return steps with their costs: units are steps, or products of `matmul`.
  price(steps) {
    return this.priced(steps).map((step) => ({
      ...step,
      n: step.count * (PRODUCT_OPERATIONS.includes(step.operation) ? step.size[0] : 1),
      costs: this.costs(step.operation, step.size),
    }));
  }

  // Return what a call pays once for these steps, its overhead left out.
  start(priced) {
    const all = [...new Set(priced.map((one) => one.operation))];
    const opening = all.filter((name) => OPENING.includes(name)).sort();
    const others = all.filter((name) => !OPENING.includes(name));
    const begins = others.every((name) => SILENT.includes(name));
    const names = [...others, ...opening.slice(0, begins ? 1 : 0)];
    const starts = names.map((name) => this.profile.fits[name].start);
    const sum = (i) => starts.reduce((total, one) => total + one[i], 0);
    return makeCosts([sum(0), sum(1), 0, sum(2), 0, 0]);
  }

  // Return the seconds of one call alone: what curves are made of.
  latencyS(start, steps, network) {
    let seconds = this.profile.per_call_s + priceS(network, start);
    for (const { n, costs } of steps) seconds += n * priceS(network, costs);
    return seconds;
  }

  // Return the cost of one call: `Prediction` of mpcprof/costmodel/model.py.
  predict(priced, network, isCall = true) {
    const start = isCall ? this.start(priced) : makeCosts([0, 0, 0, 0, 0, 0]);
    const callS = isCall ? this.profile.per_call_s : 0;
    const perCallS = callS + priceS(network, start);
    const parts = addByName(priced, (one) => one.part, (one) => one.count, network);
    const operations =
      addByName(priced, (one) => one.operation, (one) => one.n, network);
    const sum = (key) => parts.reduce((all, part) => all + part[key], 0);
    const latencyS = perCallS + sum("latency_s");
    const errorS = priced.reduce((all, one) => all + this.errorS(one, network), 0);
    const hops = start.hops + sum("hops");
    const computeS = callS + sum("compute_s");
    return {
      latency_s: latencyS,
      interval_s: [Math.max(latencyS - errorS, 0), latencyS + errorS],
      bytes_sent: start.bytes_sent + sum("bytes_sent"),
      total_bytes_sent: start.total_bytes_sent + sum("total_bytes_sent"),
      hops,
      compute_s: computeS,
      per_call_s: perCallS,
      basis: BASES[priced.reduce((most, { costs }) => Math.max(most, costs.basis), 0)],
      notes: [
        ...this.guesses(priced),
        ...extrapolations(priced),
        ...this.doubts(network),
        ...this.refills.note(priced),
        ...misfit(latencyS, computeS, (hops * network.rtt_s) / 2),
      ],
      parts,
      operations,
    };
  }

  errorS({ operation, n, costs }, network) {
    const latencyS = Math.max(priceS(network, costs), priceS(this.reference, costs));
    const errorS = this.profile.fits[operation].relative_error * latencyS;
    return n * errorS * Math.max(costs.reach / TRUSTED_REACH, 1);
  }

  doubts(network) {
    const measured = this.reference;
    const isReference =
      network.bandwidth === measured.bandwidth && network.rtt_s === measured.rtt_s;
    if (isLoopback(network) || isReference) return [];
    const knownS = this.profile.checked_rtt_s;
    const leastS = Math.min(knownS || measured.rtt_s, measured.rtt_s);
    const text = formatNetwork(network);
    if (network.rtt_s < (knownS ? leastS : leastS / 4)) {
      return [
        `${text}: nobody has checked predictions for so short a round trip; ` +
        `the shortest checked is ${formatDuration(leastS)} ` +
        "(docs/cost-model.md, Fast networks)",
      ];
    }
    const isSlow = network.bandwidth * FAR < measured.bandwidth;
    if (network.rtt_s > FAR * measured.rtt_s || isSlow) {
      return [
        `${text}: over 10 times slower than ${formatNetwork(measured)}, on which the ` +
        "profile was measured; nobody has checked predictions so far from it",
      ];
    }
    return [];
  }

  guesses(priced) {
    const names = [...new Set(priced.map((one) => one.operation))].sort();
    return names
      .filter((name) => this.profile.fits[name].n_sizes < 2)
      .map((name) => `${name}: measured at one size only, its error is a guess`);
  }
}

// Return the sums of steps of one name, in order, split into what they wait for.
function addByName(priced, nameOf, countOf, network) {
  const groups = new Map();
  for (const one of priced) {
    const name = nameOf(one);
    let part = groups.get(name);
    if (!part) {
      part = { name, count: 0, latency_s: 0, bytes_sent: 0, hops: 0, compute_s: 0 };
      groups.set(name, Object.assign(part, { wire_bytes: 0, total_bytes_sent: 0 }));
    }
    const { n, costs } = one;
    part.count += countOf(one);
    part.latency_s += n * priceS(network, costs);
    part.bytes_sent += n * costs.bytes_sent;
    part.hops += n * costs.hops;
    part.compute_s += n * (costs.exposed_s + costs.hidden_s);
    part.wire_bytes += n * costs.wire_bytes;
    part.total_bytes_sent += n * costs.total_bytes_sent;
  }
  return [...groups.values()];
}

function extrapolations(priced) {
  const largest = new Map();
  for (const { operation, size, costs } of priced) {
    if (costs.reach > (largest.get(operation) || [1])[0]) {
      largest.set(operation, [costs.reach, size]);
    }
  }
  return [...largest].map(([name, [reach, size]]) =>
    `${name}: size ${formatE1(product(size))} is ${formatG(reach, 3)} times the ` +
    "largest measured");
}

// Say where compute and hops alone are more than the latency they are parts of.
function misfit(latencyS, computeS, hopsS) {
  const allowedS = latencyS + LINK_TOLERANCE * latencyS;
  const latency = `a latency of ${formatDuration(latencyS, 3)}`;
  if (hopsS > allowedS) {
    return [
      `hops and bytes would take ${formatDuration(hopsS, 3)} of ${latency}: messages ` +
      "waited less than RTT/2 each, so that hops are an upper bound",
    ];
  }
  if (computeS + hopsS > allowedS) {
    return [
      `compute, hops and transfer add up to ${formatDuration(computeS + hopsS, 3)} of ` +
      `${latency}: compute, which is of loopback calls, is an upper bound`,
    ];
  }
  return [];
}
