// What the pages share: escaping, the state in the address, files to save, copying.
"use strict";
window.VT = (() => {
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => ENTITIES[c]);

  // The state of a page is the part of its address after #: it opens from disk and makes no request.
  const readState = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  let written = null;
  const writeState = (state) => {
    const kept = Object.entries(state).filter(([, value]) => value !== "" && value != null);
    const text = new URLSearchParams(kept).toString();
    written = text;
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };
  const onState = (act) =>
    window.addEventListener("hashchange", () => {
      if (location.hash.slice(1) !== written && location.hash !== "#main") act();
    });

  const save = (name, content, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const copy = async (button, text) => {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // A page from disk may be refused the clipboard: the old way is left.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
      area.remove();
    }
    setTimeout(() => (button.textContent = label), 2000);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button, button.dataset.copy);
  });

  const option = (value, text, chosen) => {
    const made = new Option(text, value);
    made.selected = value === chosen;
    return made;
  };
  const byId = (id) => document.getElementById(id);
  return { escape, readState, writeState, onState, save, copy, option, byId };
})();
