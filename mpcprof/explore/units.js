"use strict";
// Text that people type and read, to and from SI seconds and bytes: mpcprof/units.py.

const DURATIONS = [["s", 0], ["ms", -3], ["us", -6]];
const BYTES = [["TB", 12], ["GB", 9], ["MB", 6], ["kB", 3], ["B", 0]];
const BANDWIDTHS = BYTES.map(([unit, power]) => [unit + "ps", power]);

// Return the digits of a number and the power of ten of the first one.
function decimalOf(value) {
  const [digits, power] = Math.abs(value).toExponential().split("e");
  return { digits: digits.replace(".", ""), power: Number(power) };
}

// Round decimal digits as Python's decimal does: half to even.
function roundDecimal({ digits, power }, n) {
  if (digits.length <= n) return { digits, power };
  const rest = digits.slice(n);
  const kept = BigInt(digits.slice(0, n));
  const half = "5" + "0".repeat(rest.length - 1);
  const isUp = rest > half || (rest === half && kept % 2n === 1n);
  const rounded = String(kept + (isUp ? 1n : 0n));
  return { digits: rounded.slice(0, n), power: power + rounded.length - n };
}

// Write digits times ten to a power, without trailing zeros.
function writeDecimal(digits, power) {
  const short = digits.replace(/0+$/, "") || "0";
  if (power >= 16 || power <= -7) {
    const tail = short.length > 1 ? "." + short.slice(1) : "";
    return `${short[0]}${tail}e${power < 0 ? "-" : "+"}${Math.abs(power)}`;
  }
  if (power < 0) return "0." + "0".repeat(-power - 1) + short;
  const whole = short.padEnd(power + 1, "0");
  const tail = whole.slice(power + 1);
  return whole.slice(0, power + 1) + (tail ? "." + tail : "");
}

// Write in the largest unit in which the number is at least 1, or in the smallest.
function formatIn(value, units, digits, gap) {
  if (value === 0) return "0" + gap + units[units.length - 1][0];
  let exact = decimalOf(value);
  if (digits) exact = roundDecimal(exact, digits);
  const [unit, power] =
    units.find(([, least]) => exact.power >= least) || units[units.length - 1];
  const sign = value < 0 ? "-" : "";
  return sign + writeDecimal(exact.digits, exact.power - power) + gap + unit;
}

function formatDuration(seconds, digits) {
  if (seconds === 0) return digits ? "0 s" : "0s";
  return formatIn(seconds, DURATIONS, digits, digits ? " " : "");
}

function formatBytes(bytes, digits) {
  return formatIn(bytes, BYTES, digits, digits ? " " : "");
}

function formatBandwidth(bytesPerS, digits) {
  if (bytesPerS === Infinity) return "unlimited";
  return formatIn(bytesPerS, BANDWIDTHS, digits, digits ? " " : "");
}

function formatNetwork(network) {
  if (isLoopback(network)) return "loopback";
  return `${formatBandwidth(network.bandwidth)},${formatDuration(network.rtt_s)}`;
}

// Write `93.6` hops of a mean, and `20` where the decimal would be 0; half to even.
function formatHops(hops) {
  const isTie = hops % 1 === 0.25; // of the two, the one that toFixed rounds up
  return (isTie ? hops - 0.05 : hops).toFixed(1).replace(".0", "");
}

function isLoopback(network) {
  return network.bandwidth === Infinity && network.rtt_s === 0;
}

// Write a number as Python's %.{digits}g does.
function formatG(value, digits = 6) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const { digits: all, power } = roundDecimal(decimalOf(value), digits);
  const sign = value < 0 ? "-" : "";
  if (power >= -4 && power < digits) return sign + writeDecimal(all, power);
  const short = all.replace(/0+$/, "");
  const tail = short.length > 1 ? "." + short.slice(1) : "";
  const exponent = String(Math.abs(power)).padStart(2, "0");
  return `${sign}${short[0]}${tail}e${power < 0 ? "-" : "+"}${exponent}`;
}

// Write a number as Python's %.1e does.
function formatE1(value) {
  const { digits, power } = roundDecimal(decimalOf(value), 2);
  const exponent = String(Math.abs(power)).padStart(2, "0");
  return `${digits[0]}.${digits[1] || "0"}e${power < 0 ? "-" : "+"}${exponent}`;
}

const SPELT_DURATIONS = {
  us: -6, "µs": -6, "μs": -6, usec: -6, microsecond: -6,
  ms: -3, msec: -3, millisecond: -3, s: 0, sec: 0, second: 0,
};
const PREFIXES = { "": 0, k: 3, K: 3, M: 6, G: 9, T: 12 };

// Read seconds from `40ms`; throws a text that says what was expected.
function parseDuration(text) {
  const match = /^(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(\D*)$/.exec(text.trim());
  if (!match) throw `“${text}” is no duration; type one such as 40ms or 2s`;
  const [, number, unit] = match;
  if (!unit.trim()) throw `“${text}” has no unit; type ${number}ms or ${number}s`;
  const spelt = unit.trim();
  const power = SPELT_DURATIONS[spelt] ?? SPELT_DURATIONS[spelt.replace(/s$/, "")];
  if (power === undefined) throw `“${spelt}” is no unit of time; type us, ms or s`;
  return Number(`${number}e${power}`);
}

// Read bytes per second from `44MBps`, `352 Mbit/s`, `unlimited`.
function parseBandwidth(text) {
  if (/^\s*unlimited\s*$/i.test(text)) return Infinity;
  const match = /^(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(\D*)$/.exec(text.trim());
  if (!match) throw `“${text}” is no bandwidth; type one such as 44MBps or 352Mbps`;
  const [, number, unit] = match;
  if (!unit.trim()) throw `“${text}” has no unit; type ${number}MBps or ${number}Mbps`;
  const words = /^([kKMGT]?)(b|B|bits?|bytes?)(?:ps|\/s|\/sec)?$/.exec(unit.trim());
  if (!words) {
    throw `“${unit.trim()}” is unclear; type MBps (bytes) or Mbps (bits), with that case`;
  }
  const value = Number(`${number}e${PREFIXES[words[1]]}`);
  if (!(value > 0)) throw `“${text}” is no bandwidth; type more than 0, such as 44MBps`;
  return /^b(it|$)/.test(words[2]) ? value / 8 : value;
}
