// Says how much of an export has come, and lets it be cancelled. Without a script the browser's own download does the same.
"use strict";

document.querySelectorAll("[data-export]").forEach((form) => {
  const button = form.querySelector("button");
  const state = document.createElement("span");
  state.setAttribute("role", "status");
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.className = "btn";
  cancel.textContent = "Cancel";

  async function fetched(signal) {
    const answer = await fetch(`${form.action}?${new URLSearchParams(new FormData(form))}`, { signal });
    if (!answer.ok) throw new Error(`Nothing was exported: the server answers ${answer.status}.`);
    const rows = Number(answer.headers.get("X-Rows"));
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "")?.[1] || "touchstone.zip";
    const reader = answer.body.getReader();
    const parts = [];
    let bytes = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      bytes += part.value.length;
      state.textContent = `${rows.toLocaleString("en")} rows are being written: ${(bytes / 1e6).toFixed(1)} MB so far`;
    }
    return { name, rows, blob: new Blob(parts, { type: "application/zip" }) };
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asking = new AbortController();
    cancel.onclick = () => asking.abort();
    button.disabled = true;
    button.after(cancel, state);
    state.textContent = "The rows are looked up …";
    try {
      const { name, rows, blob } = await fetched(asking.signal);
      const file = document.createElement("a");
      file.href = URL.createObjectURL(blob);
      file.download = name;
      file.click();
      state.textContent = `${rows.toLocaleString("en")} rows in ${name}`;
      setTimeout(() => URL.revokeObjectURL(file.href), 10000);
    } catch (fault) {
      state.textContent = fault.name === "AbortError" ? "Cancelled: nothing is kept." : fault.message;
    } finally {
      cancel.remove();
      button.disabled = false;
    }
  });
});
