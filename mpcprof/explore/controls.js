// Sliders with typed values, and menus. Each control reads and writes one choice.

// A slider's places 0 to 1000 on a logarithmic axis.
const LOG_PLACES = 1000;
const toPlace = (value, [low, high]) =>
  Math.round((LOG_PLACES * Math.log(value / low)) / Math.log(high / low));
const fromPlace = (place, [low, high]) =>
  Number((low * (high / low) ** (place / LOG_PLACES)).toPrecision(3));

const RTT_RANGE = [1e-4, 1];
const BANDWIDTH_RANGE = [1e6, 1e10];

const wholeNumber = (least, most) => (text) => {
  const value = Number(text.trim());
  if (!/^\d+$/.test(text.trim()) || value < least || value > most) {
    throw `“${text}”: type a whole number from ${least} to ${most}`;
  }
  return value;
};

const price = (text) => {
  const match = /^\$?\s*(\d+\.?\d*|\.\d+)$/.exec(text.trim());
  if (!match) throw `“${text}” is no price; type dollars such as 0.5`;
  return Number(match[1]);
};

// A control: {id, label, range, step, show, read, get, set}; get and set are of `state`.
function sliderHtml({ id, label, range }) {
  const slider = range
    ? `<input type="range" id="${id}-slider" aria-label="${label}, slider">` : "<span></span>";
  return `<div class="control"><label for="${id}">${label}</label>${slider}` +
    `<input type="text" id="${id}" inputmode="text" autocomplete="off" ` +
    `aria-describedby="${id}-hint"><p class="hint" id="${id}-hint"></p></div>`;
}

function menuHtml({ id, label }) {
  return `<div class="control pick"><label for="${id}">${label}</label>` +
    `<select id="${id}"></select></div>`;
}

function checkHtml({ id, label }) {
  return `<label class="check"><input type="checkbox" id="${id}"> ${label}</label>`;
}

// Write a menu's options: names, or [name, text] pairs; only where they changed.
function fillMenu(menu, options, value) {
  const html = options.map((one) => {
    const [name, text] = Array.isArray(one) ? one : [one, one];
    return `<option value="${escapeText(name)}">${escapeText(text)}</option>`;
  }).join("");
  if (menu.dataset.html !== html) {
    menu.innerHTML = html;
    menu.dataset.html = html;
  }
  menu.value = value;
}

const find = (id) => document.getElementById(id);

// Bind a slider and its typed value; `change(value)` is told of a new one.
function bindSlider(control, change) {
  const typed = find(control.id);
  const slider = find(`${control.id}-slider`);
  const hint = find(`${control.id}-hint`);
  const say = (text) => {
    hint.textContent = text;
    hint.classList.toggle("wrong", Boolean(text));
    typed.setAttribute("aria-invalid", text ? "true" : "false");
  };
  typed.addEventListener("change", () => {
    try {
      const value = control.read(typed.value);
      say("");
      change(value);
    } catch (problem) {
      if (typeof problem !== "string") throw problem;
      say(problem);
    }
  });
  if (!slider) return;
  slider.addEventListener("input", () => {
    say("");
    change(control.fromSlider(Number(slider.value)));
  });
}

// Show a value in the slider and the field, unless it is being typed.
function showSlider(control, value) {
  const typed = find(control.id);
  const slider = find(`${control.id}-slider`);
  const text = control.show(value);
  if (document.activeElement !== typed || typed.getAttribute("aria-invalid") !== "true") {
    typed.value = text;
  }
  if (!slider) return;
  const { least, most, step, place } = control.slider(value);
  slider.min = least;
  slider.max = most;
  slider.step = step;
  slider.value = place;
  slider.setAttribute("aria-valuetext", text);
}

function logControl(id, label, range, show, read) {
  return {
    id, label, range, show, read,
    fromSlider: (place) => fromPlace(place, range),
    slider: (value) => ({
      least: 0, most: LOG_PLACES, step: 1,
      place: Math.min(Math.max(toPlace(value, range), 0), LOG_PLACES),
    }),
  };
}

// A control of whole numbers; the slider has fewer than can be typed.
function countControl(id, label, [least, most], slider = () => ({})) {
  return {
    id, label, range: true, show: String, read: wholeNumber(...LIMITS[id]),
    fromSlider: Number,
    slider: (value) => ({ least, most, step: 1, place: value, ...slider(value) }),
  };
}
