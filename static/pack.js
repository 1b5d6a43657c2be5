// Says that a pack is being made, and how long already: the answer is the file itself, which takes its time.
"use strict";

document.querySelectorAll("[data-pack]").forEach((form) => {
  const state = form.querySelector("[data-pack-state]");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const begun = Date.now();
    const asking = new AbortController();
    const cancel = document.createElement("button");
    cancel.type = "button";
    cancel.className = "btn";
    cancel.textContent = "Cancel";
    cancel.addEventListener("click", () => asking.abort());
    const clock = setInterval(() => { state.textContent = `Being made for ${Math.round((Date.now() - begun) / 1000)} s …`; }, 500);
    button.disabled = true;
    state.after(cancel);
    try {
      const answer = await fetch(form.action, { method: "POST", body: new FormData(form), signal: asking.signal });
      if (!answer.ok) throw new Error(`The server answers ${answer.status}. Nothing was given out.`);
      const file = document.createElement("a");
      file.href = URL.createObjectURL(await answer.blob());
      file.download = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "")?.[1] || "evidence.touchstone.zip";
      file.click();
      state.textContent = `Downloaded as ${file.download}.`;
      setTimeout(() => URL.revokeObjectURL(file.href), 10000);
    } catch (fault) {
      state.textContent = fault.name === "AbortError" ? "Cancelled. What was made of it is thrown away." : fault.message;
    } finally {
      clearInterval(clock);
      cancel.remove();
      button.disabled = false;
    }
  });
});
