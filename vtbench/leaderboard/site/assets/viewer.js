// Original, reconstructions and errors of two or three runs: side by side, under a slider, or in turn.
"use strict";
(() => {
  const data = window.VTBENCH;
  const { readState, writeState, onState, option, byId } = window.VT;
  const ORIGINAL = "original", ZOOMS = ["1", "2", "4", "8"];
  // The largest zoom at which three pictures stand beside each other, one on a phone.
  const widest = Math.max(...data.items.map((item) => item.width)), room = (innerWidth - 72) / (innerWidth < 600 ? 1 : 3);
  const DEFAULT_ZOOM = ZOOMS.findLast((zoom) => widest * zoom <= room) ?? "1";
  const runs = new Map(data.runs.map((run) => [run.name, run.pictures]));
  const items = new Map(data.items.map((item) => [String(item.n), item]));
  const grouped = (select, all, group, made) => {
    for (const title of new Set(all.map(group))) {
      const box = document.createElement("optgroup");
      box.label = title;
      box.append(...all.filter((one) => group(one) === title).map(made));
      select.append(box);
    }
  };
  grouped(byId("image"), data.items, (item) => item.task, (item) => option(String(item.n), item.id));
  for (const id of ["a", "b", "c"]) {
    if (id === "c") byId(id).append(option("", "none"));
    byId(id).append(option(ORIGINAL, ORIGINAL));
    grouped(byId(id), data.runs, (run) => run.block, (run) => option(run.name, run.name));
  }
  // What is shown first: the two tokenizers of the highest rates, which keep the most.
  const start = data.runs.filter((run) => run.block === data.runs[0].block).slice(-2).map((run) => run.name);
  const stage = byId("stage");
  let state = {}, timer = 0;

  const find = (name) => (name === ORIGINAL ? { source: items.get(state.image).source, caption: "" } : runs.get(name)?.[state.image]);
  const picture = (name) => {
    const found = find(name), image = new Image();
    if (!found) return null;
    image.src = found.source;
    image.alt = name === ORIGINAL ? `Original ${items.get(state.image).id}` : `${items.get(state.image).id} through ${name}`;
    return image;
  };
  // The error is the browser's: a picture over its original, blended by difference.
  const layers = (name) => {
    const box = document.createElement("div"), item = items.get(state.image), own = picture(name);
    box.className = "layers";
    box.style.width = `${item.width * state.zoom}px`;
    box.style.height = `${item.height * state.zoom}px`;
    if (!own) {
      box.textContent = "this run has no picture";
      return box;
    }
    if (state.error && name !== ORIGINAL) {
      const original = picture(ORIGINAL);
      original.alt = "";
      own.alt = `Error of ${own.alt}`;
      box.classList.add("error");
      box.append(original);
    }
    box.append(own);
    return box;
  };
  const windowOf = (label) => {
    const view = document.createElement("div");
    view.className = "window";
    view.tabIndex = 0;
    view.setAttribute("role", "group");
    view.setAttribute("aria-label", label);
    view.addEventListener("scroll", () => {
      for (const other of stage.querySelectorAll(".window"))
        if (other !== view && (other.scrollLeft !== view.scrollLeft || other.scrollTop !== view.scrollTop)) other.scrollTo(view.scrollLeft, view.scrollTop);
    });
    return view;
  };
  const pane = (name, content) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), view = windowOf(name);
    figure.className = "pane";
    const strong = document.createElement("b");
    strong.textContent = name;
    caption.append(strong, ` ${find(name)?.caption ?? ""}`);
    view.append(content);
    figure.append(caption, view);
    return figure;
  };
  const names = () => [state.a, state.b, state.c].filter(Boolean);

  const showSlider = () => {
    const view = windowOf(`${state.a} left of the slider, ${state.b} right of it`), box = document.createElement("div");
    const under = layers(state.b), over = layers(state.a);
    box.style.cssText = `position:relative;width:${under.style.width};height:${under.style.height}`;
    over.style.position = "absolute";
    over.style.inset = "0";
    over.id = "over";
    box.append(under, over);
    view.append(box);
    const label = document.createElement("label"), slide = document.createElement("input");
    slide.type = "range";
    slide.id = "slide";
    slide.min = 0;
    slide.max = 100;
    slide.value = state.at;
    const clip = () => (over.style.clipPath = `inset(0 ${100 - slide.value}% 0 0)`);
    slide.addEventListener("input", () => {
      state.at = slide.value;
      clip();
      remember();
    });
    clip();
    label.append(`${state.a} left, ${state.b} right `, slide);
    const figure = document.createElement("figure");
    figure.className = "pane";
    figure.append(label, view);
    view.addEventListener("pointermove", (event) => {
      if (event.buttons !== 1) return;
      const { left, width } = box.getBoundingClientRect();
      slide.value = (100 * (event.clientX - left)) / width;
      slide.dispatchEvent(new Event("input"));
    });
    stage.append(figure);
  };
  const showFlicker = () => {
    const shown = names(), view = windowOf("pictures in turn"), caption = document.createElement("figcaption"), figure = document.createElement("figure");
    figure.className = "pane";
    const all = shown.map(layers), box = document.createElement("div");
    box.style.cssText = `position:relative;width:${all[0].style.width};height:${all[0].style.height}`;
    for (const one of all) {
      one.style.position = "absolute";
      one.style.inset = "0";
    }
    box.append(...all);
    view.append(box);
    let turn = -1;
    const next = () => {
      turn = (turn + 1) % shown.length;
      all.forEach((one, i) => (one.style.visibility = i === turn ? "visible" : "hidden"));
      caption.textContent = shown[turn];
    };
    const button = document.createElement("button");
    button.type = "button";
    button.id = "pause";
    const run = () => {
      timer = setInterval(next, 700);
      button.textContent = "Pause";
    };
    button.addEventListener("click", () => {
      if (timer) {
        clearInterval(timer);
        timer = 0;
        button.textContent = "Go on";
      } else run();
    });
    const step = document.createElement("button");
    step.type = "button";
    step.textContent = "Next";
    step.addEventListener("click", next);
    next();
    // Who asked for less motion turns the pictures by hand.
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) button.textContent = "Go on";
    else run();
    figure.append(button, " ", step, caption, view);
    stage.append(figure);
  };

  const draw = () => {
    clearInterval(timer);
    timer = 0;
    const old = stage.querySelector(".window"), at = old ? [old.scrollLeft, old.scrollTop] : [0, 0];
    stage.replaceChildren();
    stage.style.setProperty("--panes", state.view === "side" ? names().length : 1);
    if (state.view === "slider") showSlider();
    else if (state.view === "flicker") showFlicker();
    else for (const name of names()) stage.append(pane(name, layers(name)));
    for (const view of stage.querySelectorAll(".window")) view.scrollTo(...at);
  };
  const remember = () => writeState({ ...state, error: state.error ? "1" : "", view: state.view === "side" ? "" : state.view, zoom: state.zoom === DEFAULT_ZOOM ? "" : state.zoom, at: state.view === "slider" && state.at !== "50" ? state.at : "" });
  const fromAddress = () => {
    const read = readState(), known = (name) => name === ORIGINAL || runs.has(name), [first = ORIGINAL, second = first] = start;
    state = {
      image: items.has(read.image) ? read.image : [...items.keys()][0],
      a: known(read.a) ? read.a : ORIGINAL, b: known(read.b) ? read.b : read.a ? ORIGINAL : first, c: known(read.c) ? read.c : read.a ? "" : second,
      view: ["slider", "flicker"].includes(read.view) ? read.view : "side", zoom: ZOOMS.includes(read.zoom) ? read.zoom : DEFAULT_ZOOM,
      error: read.error === "1", at: read.at ?? "50",
    };
    for (const id of ["image", "a", "b", "c", "view", "zoom"]) byId(id).value = state[id];
    byId("error").checked = state.error;
    draw();
  };
  const update = () => {
    for (const id of ["image", "a", "b", "c", "view", "zoom"]) state[id] = byId(id).value;
    state.error = byId("error").checked;
    remember();
    draw();
  };
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("change", update);
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("select, input, button, a") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (ZOOMS.includes(event.key)) byId("zoom").value = event.key;
    else if (event.key === "f") byId("view").value = byId("view").value === "flicker" ? "side" : "flicker";
    else if (event.key === "e") byId("error").checked = !byId("error").checked;
    else return;
    update();
  });
  onState(fromAddress);
  fromAddress();
})();
