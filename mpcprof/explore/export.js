// What leaves the page: pictures of a figure, tables, files and commands.

function styleBetween(from, to) {
  const text = document.querySelector("style").textContent;
  return text.slice(text.indexOf(`/*${from}*/`), to ? text.indexOf(`/*${to}*/`) : undefined);
}

// Return one SVG of all charts of a figure, beside each other, with title and legend.
function figureSvg(figure) {
  const charts = [...figure.querySelectorAll("svg.chart")];
  const sizes = charts.map((svg) => svg.getAttribute("viewBox").split(" ").map(Number));
  const width = sizes.reduce((all, size) => all + size[2], 0);
  const deep = Math.max(...sizes.map((size) => size[3]));
  const labels = charts.map((svg) => svg.parentElement.dataset.label || "");
  const top = labels.some(Boolean) ? 72 : 52;
  let x = 0;
  let body = svgText(14, 41, figure.querySelector(".caption").textContent);
  charts.forEach((svg, i) => {
    body += svgText(x + 14, 64, labels[i], { kind: "note" });
    body += `<g transform="translate(${x} ${top})">${svg.innerHTML}</g>`;
    x += sizes[i][2];
  });
  const { html, height } = legendSvg(figure, width, top + deep + 16);
  const title = figure.querySelector("h2").textContent;
  const style = styleBetween("colours", "dark") + styleBetween("chart");
  return {
    width, height,
    text: `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 ${width} ` +
      `${height}" width="${width}" height="${height}"><style>${style}</style>` +
      `<rect width="100%" height="100%" style="fill:#fff"/>` +
      `<text x="14" y="22" style="font-size:15px;font-weight:650;fill:#1b1f24">` +
      `${escapeText(title)}</text>${body}${html}</svg>`,
  };
}

function legendSvg(figure, width, top) {
  let [x, y] = [14, top];
  let html = "";
  for (const item of figure.querySelectorAll(".legend li")) {
    const text = item.textContent;
    const long = 34 + text.length * 7.2;
    if (x + long > width && x > 14) [x, y] = [14, y + 20];
    const kind = item.querySelector("i").className;
    html += kind.startsWith("hue")
      ? `<rect x="${x}" y="${y - 10}" width="12" height="12" class="${kind}"/>`
      : `<line x1="${x - 2}" y1="${y - 4}" x2="${x + 15}" y2="${y - 4}" class="curve ${kind}"/>`;
    html += svgText(x + 18, y, text);
    x += long;
  }
  return { html, height: y + 16 };
}

function download(name, type, content) {
  const link = document.createElement("a");
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function downloadPng(name, { text, width, height }) {
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    const scale = 3; // 300 dots an inch at a third of the size
    [canvas.width, canvas.height] = [width * scale, height * scale];
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.drawImage(image, 0, 0);
    canvas.toBlob((blob) => download(name, "image/png", blob));
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
}

function csvOf({ head, rows }) {
  const cell = (one) => {
    const text = String(one);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function markdownOf({ head, rows }) {
  const line = (cells) => `| ${cells.map((one) => String(one).replaceAll("|", "\\|"))
    .join(" | ")} |`;
  return [line(head), `|${head.map(() => "---").join("|")}|`, ...rows.map(line)].join("\n") + "\n";
}

function latexOf({ head, rows }, caption) {
  const escaped = (one) => String(one).replace(/[&%$#_{}]/g, "\\$&")
    .replaceAll("×", "$\\times$").replaceAll("–", "--");
  const line = (cells) => `  ${cells.map(escaped).join(" & ")} \\\\`;
  return [
    "% needs \\usepackage{booktabs}", "\\begin{table}", "  \\centering",
    `  \\caption{${escaped(caption)}}`, `  \\begin{tabular}{l${"r".repeat(head.length - 1)}}`,
    "  \\toprule", line(head), "  \\midrule", ...rows.map(line), "  \\bottomrule",
    "  \\end{tabular}", "\\end{table}", "",
  ].join("\n");
}

// Write a cell for people: digits for numbers, texts as they are.
function showCell(cell, heading) {
  if (typeof cell !== "number") return String(cell);
  if (heading.endsWith("bytes sent")) return formatBytes(cell, 3);
  if (heading.endsWith("hops") || heading.endsWith("steps")) return formatHops(cell);
  return formatDuration(cell, 3);
}

function tableHtml({ head, rows }, caption) {
  const body = rows.map(([first, ...cells]) =>
    `<tr><th scope="row">${escapeText(first)}</th>` +
    cells.map((cell, i) => `<td>${escapeText(showCell(cell, head[i + 1]))}</td>`).join("") +
    "</tr>").join("");
  return `<table class="data"><caption class="hidden">${escapeText(caption)}</caption><thead>` +
    `<tr>${head.map((one) => `<th scope="col">${escapeText(one)}</th>`).join("")}</tr></thead>` +
    `<tbody>${body}</tbody></table>`;
}

function roundedTable({ head, rows }) {
  return { head, rows: rows.map(([first, ...cells]) =>
    [first, ...cells.map((cell, i) => showCell(cell, head[i + 1]))]) };
}
