// What a search may go on with, under the box: names of fields, then values. The box works the same without it.
"use strict";

{
  const WAIT_MS = 160;
  const known = new Map();

  async function ask(text, signal) {
    if (known.has(text)) return known.get(text);
    const answer = await fetch(`/search/complete?${new URLSearchParams({ text })}`, { signal, headers: { Accept: "application/json" } });
    if (!answer.ok) return { from: text.length, options: [] };
    const told = await answer.json();
    known.set(text, told);
    return told;
  }

  function offer(box, number) {
    const list = document.createElement("ul");
    list.id = `options-${number}`;
    list.className = "options";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "What may follow");
    list.hidden = true;
    const said = document.createElement("span");
    said.className = "visually-hidden";
    said.setAttribute("role", "status");
    box.setAttribute("role", "combobox");
    box.setAttribute("autocomplete", "off");
    box.setAttribute("aria-autocomplete", "list");
    box.setAttribute("aria-controls", list.id);
    box.setAttribute("aria-expanded", "false");
    const place = box.closest("label") || box;
    place.parentElement.classList.add("offers");
    place.after(list, said);

    let told = { from: 0, options: [] };
    let chosen = -1;
    let timer;
    let asking = new AbortController();

    function close() {
      clearTimeout(timer);
      asking.abort();
      list.hidden = true;
      chosen = -1;
      box.setAttribute("aria-expanded", "false");
      box.removeAttribute("aria-activedescendant");
    }

    function choose(at) {
      chosen = at;
      [...list.children].forEach((item, n) => item.setAttribute("aria-selected", n === at ? "true" : "false"));
      if (at < 0) { box.removeAttribute("aria-activedescendant"); return; }
      box.setAttribute("aria-activedescendant", list.children[at].id);
      list.children[at].scrollIntoView({ block: "nearest" });
    }

    function take(at) {
      const caret = box.selectionStart;
      const option = told.options[at];
      const goesOn = /[:.]$/.test(option.text);
      const text = option.text + (goesOn ? "" : " ");
      box.value = box.value.slice(0, told.from) + text + box.value.slice(caret).replace(/^ /, goesOn ? " " : "");
      box.setSelectionRange(told.from + text.length, told.from + text.length);
      close();
      if (goesOn) look(0);
    }

    function show() {
      list.replaceChildren(...told.options.map((option, n) => {
        const item = document.createElement("li");
        item.id = `${list.id}-${n}`;
        item.setAttribute("role", "option");
        const text = document.createElement("code");
        text.textContent = option.text;
        const what = document.createElement("span");
        what.textContent = option.what;
        item.append(text, " ", what);
        item.addEventListener("pointerdown", (event) => { event.preventDefault(); take(n); });
        return item;
      }));
      choose(-1);
      list.hidden = told.options.length === 0;
      box.setAttribute("aria-expanded", String(!list.hidden));
      said.textContent = list.hidden ? "" : `${told.options.length} may follow`;
    }

    function look(wait) {
      clearTimeout(timer);
      asking.abort();
      asking = new AbortController();
      const signal = asking.signal;
      timer = setTimeout(async () => {
        try {
          const found = await ask(box.value.slice(0, box.selectionStart), signal);
          if (signal.aborted || document.activeElement !== box) return;
          told = found;
          show();
        } catch {
          // Nothing to offer: the box itself still works.
        }
      }, wait);
    }

    box.addEventListener("input", () => look(WAIT_MS));
    box.addEventListener("blur", close);
    box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) { look(0); return; }
        const last = told.options.length - 1;
        const step = event.key === "ArrowDown" ? 1 : -1;
        choose(chosen + step > last ? -1 : chosen + step < -1 ? last : chosen + step);
      } else if (event.key === "Enter" && chosen >= 0 && !list.hidden) {
        event.preventDefault();
        take(chosen);
      } else if (event.key === "Escape" && !list.hidden) {
        event.preventDefault();
        close();
      }
    });
  }

  document.querySelectorAll(".ask input[name=q], .narrow input[name=q], .saving input[name=q]").forEach(offer);
}
