// Live parts of a page beyond what htmx does: bar widths, loss curves, times in the reader's own zone.
"use strict";

const fill = (root) => {
  for (const bar of root.querySelectorAll("[data-share]")) bar.style.width = `${bar.dataset.share}%`;
  for (const t of root.querySelectorAll("time[datetime]")) t.title = new Date(t.dateTime).toLocaleString();
};

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// One curve: <figure data-curve="/runs/ID/metrics.json" data-every="2000" data-colour="--rad-dino">
const draw = async (figure) => {
  const box = figure.querySelector(".plot");
  const load = async () => {
    const answer = await fetch(figure.dataset.curve);
    if (!answer.ok) return null;
    return answer.json();
  };
  let plot = null;
  const refresh = async () => {
    const data = await load();
    if (!data || data.steps.length === 0) return data;
    const columns = [data.steps, data.values];
    if (plot) {
      plot.setData(columns);
      return data;
    }
    const short = (v) => (v == null ? "–" : String(Number(v.toPrecision(4)))); // a learning rate is no 0
    const axis = { stroke: token("--soft"), grid: { stroke: token("--line"), width: 1 }, ticks: { show: false }, font: "12px Inter" };
    plot = new uPlot({
      width: box.clientWidth, height: 260, cursor: { y: false }, legend: { live: true },
      scales: { x: { time: false } },
      axes: [{ ...axis, label: data.axis || "step" }, { ...axis, size: 56, values: (_, ticks) => ticks.map(short) }],
      series: [{ label: data.axis || "step" }, { label: data.label, value: (_, v) => short(v), stroke: token(figure.dataset.colour || "--light"), width: 2, points: { show: columns[0].length < 25 } }],
    }, columns, box);
    new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 260 })).observe(box);
    return data;
  };
  let data = await refresh();
  while (figure.isConnected && data && data.live) {
    await new Promise((done) => setTimeout(done, Number(figure.dataset.every || 2000)));
    data = await refresh();
  }
};

// Keys for buttons and links that name one, never while somebody types; a button that needs a choice first leads to it.
const keys = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const found = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!found) return;
  event.preventDefault();
  const needed = found.dataset.needs && document.getElementById(found.dataset.needs);
  if (needed && !needed.value) needed.focus();
  else found.click();
};

// Rows of a table by their fate and by text.
const filterRows = (id) => {
  const fate = document.querySelector(`[data-filter-fate="${id}"]`).value;
  const text = document.querySelector(`[data-filter-text="${id}"]`).value.trim().toLowerCase();
  const touched = ["changed", "emptied", "removed"];
  for (const row of document.querySelectorAll(`#${id} tbody tr`)) {
    const fits = !fate || (fate === "touched" ? touched.includes(row.dataset.fate) : row.dataset.fate === fate);
    row.hidden = !(fits && row.textContent.toLowerCase().includes(text));
  }
};

document.addEventListener("DOMContentLoaded", () => {
  fill(document);
  document.querySelectorAll("[data-curve]").forEach(draw);
  if (document.querySelector("[data-key]")) document.addEventListener("keydown", keys);
  for (const control of document.querySelectorAll("[data-filter-fate], [data-filter-text]")) {
    const id = control.dataset.filterFate || control.dataset.filterText;
    control.addEventListener("input", () => filterRows(id));
    filterRows(id);
  }
  for (const picture of document.querySelectorAll(".pair-of img")) {
    picture.classList.add("zoomable");
    picture.addEventListener("click", () => picture.closest(".films").classList.toggle("zoomed"));
  }
  const menu = document.getElementById("menu");
  if (menu) menu.addEventListener("click", () => {
    const open = document.getElementById("rail").classList.toggle("open");
    menu.setAttribute("aria-expanded", open);
  });
  document.body.addEventListener("htmx:afterSwap", (event) => fill(event.detail.target.parentElement || document));
});
