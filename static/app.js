// The little that pages need a script for. No framework, no inline code, nothing that the page cannot do without.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// Shown only where a script runs.
const reveal = (within) => $$("[data-copy], [data-live-toggle]", within).forEach((e) => { e.hidden = false; });

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    try {
      await navigator.clipboard.writeText($("pre", copy.parentElement).textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($("pre", copy.parentElement));
      copy.textContent = "Selected: copy with the keyboard";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2500);
  }
  const toggle = event.target.closest("[data-live-toggle]");
  if (toggle) {
    const live = toggle.closest("[data-live]");
    setLive(live, live.dataset.live === "paused" ? "on" : "paused");
    keepPause(live);
  }
  const tick = event.target.closest(".strip a");
  if (tick) open($(tick.getAttribute("href")));
});

// --- live parts: paused by their button, quiet in a hidden tab, and plain about a failed refresh

const LIVE_WORDS = { on: "Live", paused: "Paused", stale: "Not refreshed: the store does not answer" };

function setLive(live, state) {
  live.dataset.live = state;
  $("[data-live-word]", live).textContent = LIVE_WORDS[state];
  $("[data-live-toggle]", live).textContent = state === "paused" ? "Go on" : "Pause";
}

// A pause stands in the address, so that a link or a reload keeps it.
function keepPause(live) {
  const here = new URL(location.href);
  if (live.dataset.live === "paused") here.searchParams.set("live", "off");
  else here.searchParams.delete("live");
  history.replaceState(history.state, "", here);
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const live = event.target.closest("[data-live]");
  const reading = live && document.activeElement.closest(".newest, .numbers");
  if (document.hidden || (live && (live.dataset.live === "paused" || reading))) event.preventDefault();
});
document.addEventListener("htmx:configRequest", (event) => {
  const watched = $("[data-watch]", event.target);
  if (watched) event.detail.headers["X-Watch"] = watched.dataset.watch;
});
for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    const live = event.target.closest("[data-live]");
    if (live) setLive(live, "stale");
    if (event.target.matches(".seal")) event.target.classList.add("seal-late");
  });
}
document.addEventListener("htmx:afterSwap", (event) => {
  const live = event.target.closest("[data-live]");
  if (live && live.dataset.live === "stale") setLive(live, "on");
});

// --- forms that need no button when a script runs

$$("[data-submit-on-change]").forEach((form) => {
  form.classList.add("scripted");
  form.addEventListener("change", () => form.requestSubmit());
});
$$("[data-row-form]").forEach((form) => form.addEventListener("submit", (event) => {
  event.preventDefault();
  const [path, query] = form.dataset.rowForm.split("?");
  location.href = `${path}rows/${encodeURIComponent(form.elements.key.value.trim())}/${query ? `?${query}` : ""}`;
}));
$$("[data-scrub]").forEach((form) => {
  const range = $("input[type=range]", form);
  const list = $("select", form);
  form.classList.add("scripted");
  range.hidden = list.options.length < 2;
  range.value = range.max - list.selectedIndex;
  range.addEventListener("input", () => { list.selectedIndex = range.max - range.value; });
  for (const control of [range, list]) control.addEventListener("change", () => form.requestSubmit());
});

// --- what is left of a time, second by second; without a script the time itself stands there

function count(time) {
  const left = Math.ceil((new Date(time.dateTime) - Date.now()) / 1000);
  time.textContent = left > 0 ? `for another ${Math.floor(left / 60)} min ${left % 60} s` : "no more: the token has expired";
  if (left > 0) setTimeout(count, 1000, time);
}
$$("[data-countdown]").forEach(count);

// --- keyboard: / to the search; j, k, o along the steps of a session

function open(item) {
  if (!item) return;
  const step = $("details", item);
  step.open = true;
  $("summary", step).focus();
}

function walk(by) {
  const steps = $$(".statements summary");
  if (!steps.length) return;
  const at = steps.indexOf(document.activeElement);
  const next = steps[Math.max(0, Math.min(steps.length - 1, at < 0 ? 0 : at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const search = $("#q");
  if (event.key === "/" && search) { event.preventDefault(); search.focus(); search.select(); }
  if (event.key === "j") walk(1);
  if (event.key === "k") walk(-1);
  if (event.key === "o") {
    const step = document.activeElement.closest(".statements details");
    if (step) step.open = !step.open;
  }
});

// --- charts: figures come as data; their colours from the stylesheet, so light and dark agree

function token(name) {
  const probe = document.createElement("i");
  probe.className = `series-${name}`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function resolved(value) {
  if (typeof value === "string" && value.startsWith("token:")) return token(value.slice(6));
  if (Array.isArray(value)) return value.map(resolved);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
  return value;
}

function draw(plot) {
  const figure = resolved(JSON.parse(document.getElementById(plot.dataset.figure).textContent));
  const [ink, line] = [token("ink"), token("line")];
  const axis = { color: ink, gridcolor: line, zerolinecolor: line, fixedrange: true };
  const layout = {
    autosize: true, height: 240, margin: { l: 48, r: 8, t: 8, b: 32 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "Inter, system-ui, sans-serif", size: 12 },
    legend: { orientation: "h", y: 1.15 }, hovermode: "x unified", ...figure.layout,
    hoverlabel: { bgcolor: token("paper"), font: { color: ink } },
  };
  layout.xaxis = { ...axis, ...layout.xaxis };
  layout.yaxis = { ...axis, ...layout.yaxis };
  window.Plotly.react(plot, figure.data, layout, { responsive: true, displayModeBar: false });
}

function drawAll() {
  if (window.Plotly) $$(".plot").forEach(draw);
}

document.addEventListener("htmx:oobAfterSwap", (event) => {
  const plot = window.Plotly && document.getElementById(event.target.id.replace(/^data-/, "plot-"));
  if (plot && plot.matches(".plot")) draw(plot);
});

reveal(document);
document.addEventListener("htmx:load", (event) => reveal(event.target));
drawAll();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
if (location.hash.startsWith("#record-")) open(document.getElementById(location.hash.slice(1)));
