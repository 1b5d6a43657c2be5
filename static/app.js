// The little that pages need a script for. No framework, no inline code, nothing that the page cannot do without.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// Shown only where a script runs.
const SCRIPTED = "[data-copy], [data-live-toggle], [data-dismiss], [data-keys]";
const reveal = (within) => $$(SCRIPTED, within).forEach((e) => { e.hidden = false; });

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const copied = $(":scope > pre, :scope > .value", copy.parentElement);
    try {
      await navigator.clipboard.writeText(copied.textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(copied);
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

// --- keyboard: / to the search; j, k, o along the statements of a session or the lines of a list; ? shows the keys

function open(item) {
  if (!item) return;
  const step = $("details", item);
  step.open = true;
  $("summary", step).focus();
}

// What j and k go along: statements where there are any, else the lines of the page's first list, each by its own link.
function stops() {
  const steps = $$(".statements summary");
  if (steps.length) return steps;
  const list = $$("main table").find((table) => $("tbody tr a[href]", table) && table.checkVisibility());
  return list ? $$("tbody tr", list).map((line) => $(".more a", line) || $("a[href]", line)).filter(Boolean) : [];
}

function walk(by) {
  const lines = stops();
  if (!lines.length) return;
  const line = document.activeElement.closest("tr");
  const at = lines.findIndex((one) => one === document.activeElement || (line && line.contains(one)));
  const next = lines[Math.max(0, Math.min(lines.length - 1, at < 0 ? 0 : at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function openFocused() {
  const step = document.activeElement.closest(".statements details");
  if (step) step.open = !step.open;
  else if (stops().includes(document.activeElement)) document.activeElement.click();
}

const PRESSED = {
  "/": () => { const search = $("#q"); if (search) { search.focus(); search.select(); } },
  "?": () => { const keys = $("#keys"); if (keys && !keys.open) keys.showModal(); },
  j: () => walk(1),
  k: () => walk(-1),
  o: openFocused,
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("#progress")?.hidden) stopWaiting();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  if (!(event.key in PRESSED)) return;
  event.preventDefault();
  PRESSED[event.key]();
});

// --- toasts, and a slow answer that can be given up

function say(text) {
  const line = document.createElement("div");
  line.className = "toast-line";
  line.append(Object.assign(document.createElement("p"), { textContent: text }));
  $(".toasts")?.append(line);
  setTimeout(() => line.remove(), 8000);
}

const PATIENCE_MS = 700;
const ANSWER_MOST_MS = 30_000; // no question takes longer; what still goes on then is a download
let patience;

function wait() {
  clearTimeout(patience);
  patience = setTimeout(() => {
    $("#progress").hidden = false;
    patience = setTimeout(() => { $("#progress").hidden = true; }, ANSWER_MOST_MS);
  }, PATIENCE_MS);
}

function stopWaiting() {
  window.stop();
  clearTimeout(patience);
  $("#progress").hidden = true;
  say("Stopped waiting. This page is as it was; nothing was changed.");
}

const leads = (address) => address.origin === location.origin && !/^\/(api|static)\/|file\.|export|pack|policy/.test(address.pathname);
document.addEventListener("submit", (event) => {
  if (!event.defaultPrevented && event.target.method === "get" && leads(new URL(event.target.action))) wait();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const plain = !event.defaultPrevented && event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  if (link && plain && !link.download && !link.getAttribute("href").startsWith("#") && leads(new URL(link.href))) wait();
  if (event.target.closest("[data-stop]")) stopWaiting();
  event.target.closest("[data-dismiss]")?.parentElement.remove();
  if (event.target.closest("[data-keys]")) PRESSED["?"]();
});
window.addEventListener("pageshow", () => { clearTimeout(patience); if ($("#progress")) $("#progress").hidden = true; });

// --- the reader's own zone, offered where pages show another

$$("[data-zone]").forEach((button) => {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (button.dataset.zone !== "UTC" || !own || own === "UTC" || !own.includes("/")) return;
  button.form.elements.zone.value = own;
  button.textContent = `Show ${own}`;
  button.hidden = false;
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
    plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "Plex Sans, system-ui, sans-serif", size: 12 },
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
