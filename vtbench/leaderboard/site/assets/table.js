// The table of a suite: search, filters, columns, best-first sorting; all of it in the address.
"use strict";
(() => {
  const data = window.VTBENCH, DataTable = window.VtbenchTables;
  const { escape, readState, writeState, onState, save, copy, option, byId } = window.VT;
  const facts = data.facts.map((f) => ({ ...f, fact: true, head: f.label, group: "", decimals: 2 }));
  const columns = [...facts, ...data.columns];
  const byKey = new Map(columns.map((c) => [c.key, c]));
  const blockOf = new Map(data.blocks.map((title, i) => [title, i]));
  const presets = data.presets, DEFAULT = Object.keys(presets)[0];
  const RANGES = [["rate.tokens", "Tokens"], ["rate.bits", "Bits"]].filter(([key]) => byKey.has(key));
  const SOURCES = { measured: "measured", both: "measured and reported", reported: "reported" };
  const hasReported = data.rows.some((row) => row.source === "reported");
  let state = {}, best = new Map(), shownKeys = [], built = null;

  // Cells: what is shown, and what is sorted by. A number that is missing is last either way.
  const value = (row, c) => (c.fact ? row.facts[c.key] : row.cells[c.key]?.v);
  const isBold = (row, c) => {
    if (c.fact || !c.rate || !c.better || row.source !== "measured" || !row.competes) return false;
    if (state.bold === "none") return false;
    if (state.bold === "best") return best.get(c.key)?.has(row.name) ?? false;
    return data.fronts[c.key].includes(row.name);
  };
  const showFact = (row, c) => {
    const fact = row.facts[c.key];
    if (fact == null) return "";
    if (c.key === "paper") return `<a href="${escape(fact)}" rel="noreferrer">${escape(fact.replace(/^https?:\/\//, ""))}</a>`;
    return c.numeric ? (+fact).toFixed(c.decimals) : escape(fact);
  };
  const show = (row, c) => {
    if (c.fact) return showFact(row, c);
    const cell = row.cells[c.key];
    if (!cell) return "";
    let text = isBold(row, c) ? `<b class="bold">${escape(cell.t)}</b>` : escape(cell.t);
    if (state.ci && cell.i) text += `<small>${escape(cell.i)}</small>`;
    if (state.delta && cell.d) text += `<small class="delta">Δ ${escape(cell.d)}</small>`;
    return text;
  };
  const showName = (row) => {
    const name = row.page ? `<a href="${escape(row.page)}">${escape(row.name)}</a>` : escape(row.name);
    const seeds = row.seeds > 1 ? ` (${row.seeds} seeds)` : "";
    const problem = row.problem ? `<small>incomplete: ${escape(row.problem)}</small>` : "";
    return name + seeds + (row.source === "reported" ? "<small>reported</small>" : "") + problem;
  };
  const order = (sign) => (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : sign * (a < b ? -1 : 1));
  DataTable.ext.type.order["vt-asc"] = order(1);
  DataTable.ext.type.order["vt-desc"] = order(-1);

  // The header: a button in each column, which sorts best first.
  const scroll = byId("scroll"), caption = scroll.querySelector("caption");
  const makeTable = (own) => {
    const table = document.createElement("table"), head = table.createTHead().insertRow();
    table.id = "table";
    table.prepend(caption);
    const addHead = (html, label, definition) => {
      const th = document.createElement("th");
      th.scope = "col";
      th.title = definition;
      th.innerHTML = `<button type="button">${html}</button>`;
      th.dataset.label = label;
      head.append(th);
    };
    addHead("", "", "");
    addHead("tokenizer", "tokenizer", "The name of the run");
    for (const c of own) addHead(`${c.group ? `<span>${escape(c.group)}</span> ` : ""}${escape(c.head).replace(/ (?=[↑↓])/g, "\u00a0")}`, c.head, c.definition);
    scroll.replaceChildren(table);
    return table;
  };

  const filters = byId("filters"), selects = new Map(), ranges = new Map();
  const labelled = (text, control) => {
    const label = document.createElement("label");
    label.append(`${text} `, control);
    filters.append(label);
    return control;
  };
  for (const f of facts.filter((f) => f.filtered)) {
    const found = [...new Set(data.rows.map((row) => row.facts[f.key]).filter((x) => x != null))];
    if (!found.length) continue;
    found.sort((a, b) => (isNaN(a) || isNaN(b) ? (a < b ? -1 : 1) : a - b));
    const select = labelled(f.label, document.createElement("select"));
    select.append(option("", "all"), ...found.map((x) => option(x, x.length > 60 ? `${x.slice(0, 59)}…` : x)));
    if (data.rows.some((row) => row.source === "measured" && row.competes && row.facts[f.key] == null)) select.append(option("?", "not known"));
    select.dataset.key = f.key;
    selects.set(f.key, select);
  }
  for (const [key, text] of RANGES) {
    const pair = ["min", "max"].map((end) => {
      const input = document.createElement("input");
      input.type = "number";
      input.min = 0;
      return labelled(`${text} ${end === "min" ? "at least" : "at most"}`, input);
    });
    ranges.set(key, pair);
  }
  const source = labelled("Numbers", document.createElement("select"));
  source.id = "source";
  source.append(...Object.entries(SOURCES).map(([key, text]) => option(key, text)));
  if (!hasReported) {
    source.disabled = true;
    source.title = "Nobody is known to have reported numbers of these images";
  }
  const reset = document.createElement("button");
  reset.type = "button";
  reset.textContent = "Show all";
  filters.append(reset);

  // The list of columns is made when it is opened: there may be two hundred.
  const chooser = byId("chooser"), boxes = new Map();
  const fillChooser = () => {
    const sections = new Map([["about", facts]]);
    for (const c of data.columns) sections.set(c.table, [...(sections.get(c.table) ?? []), c]);
    for (const [title, own] of sections) {
      const set = document.createElement("fieldset"), legend = document.createElement("legend");
      legend.textContent = title;
      set.append(legend);
      for (const c of own) {
        const label = document.createElement("label"), box = document.createElement("input");
        box.type = "checkbox";
        box.value = c.key;
        box.checked = shownKeys.includes(c.key);
        label.append(box, ` ${c.group ? `${c.group} ` : ""}${c.label}`);
        set.append(label);
        boxes.set(c.key, box);
      }
      chooser.append(set);
    }
  };
  byId("chooser-panel").addEventListener("toggle", () => {
    if (!boxes.size) fillChooser();
  });
  const preset = byId("preset");
  preset.append(...Object.keys(presets).map((name) => option(name, name)), option("", "chosen"));

  const keep = (row) => {
    if (row.source === "reported" ? state.source === "measured" : state.source === "reported") return false;
    if (row.curve && !state.curves && !state.q) return false;
    for (const [key] of selects) {
      const wanted = state[key];
      if (wanted && (wanted === "?" ? row.facts[key] != null : row.facts[key] !== wanted)) return false;
    }
    for (const [key] of RANGES) {
      const [low, high] = (state[key] ?? "").split("~"), v = row.cells[key]?.v;
      if ((low && !(v >= +low)) || (high && !(v <= +high))) return false;
    }
    return true;
  };

  DataTable.ext.search.push((_, texts, i, row) => keep(row));

  // DataTables makes a cell of every column that it is given, shown or not: it is given what is shown,
  // and what is sorted by. Other columns are another table.
  let dt = null, given = [];
  const build = (own, order) => {
    if (dt) dt.destroy();
    given = own;
    dt = new DataTable(makeTable(own), {
      data: data.rows,
      paging: false, info: false, autoWidth: false, layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      ordering: { handler: false, indicators: false },
      search: { search: state.q ?? "" },
      order, orderFixed: { pre: [[0, "asc"]] },
      columns: [
        { data: (row) => blockOf.get(row.block), visible: false, searchable: false, type: "vt" },
        { data: (row, type) => (type === "display" ? showName(row) : type === "filter" ? [row.name, row.title, row.block, ...Object.values(row.facts)].join(" ") : row.name), cellType: "th", type: "vt" },
        ...own.map((c) => ({
          data: (row, type) => (type === "display" ? show(row, c) : value(row, c) ?? null),
          type: "vt", searchable: false, visible: shownKeys.includes(c.key), className: c.fact && !c.numeric ? "fact" : "",
          createdCell: (td, _, row) => {
            const cell = row.cells[c.key];
            if (c.fact) return void (td.title = row.facts[c.key] ?? "");
            if (!cell) return;
            if (cell.s) td.classList.add(cell.s);
            td.title = cell.v == null ? cell.w ?? "" : [cell.n ? `n = ${cell.n}` : "", cell.i ? `95 %: ${cell.i}` : "", cell.r ? `rank ${[...new Set(cell.r)].join("–")}` : "", cell.w ?? ""].filter(Boolean).join("; ");
          },
        })),
      ],
      createdRow: (tr, row) => {
        tr.classList.add(row.source);
        const name = tr.querySelector("th");
        name.scope = "row";
        name.title = row.title;
        name.classList.toggle("short", row.name.length <= 24);
      },
      drawCallback() {
        const nodes = this.api().rows({ search: "applied" });
        let last = null;
        nodes.every(function () {
          const { block } = this.data();
          if (block !== last) {
            const tr = document.createElement("tr"), th = document.createElement("th");
            tr.className = "block";
            th.colSpan = 1 + shownKeys.length;
            th.textContent = block;
            tr.append(th);
            this.node().before(tr);
          }
          last = block;
        });
        const n = nodes.count();
        byId("count").textContent = `${n} of ${data.rows.length} rows` + (n ? "" : ": nothing matches");
      },
    });
  };
  const direction = (key) => (byKey.get(key)?.better === "higher" ? "desc" : "asc");

  const findBest = () => {
    best = new Map();
    const rows = dt.rows({ search: "applied" }).data().toArray().filter((row) => row.competes && row.source === "measured");
    for (const c of data.columns) {
      if (!c.rate || !c.better) continue;
      const told = rows.map((row) => [row.name, row.cells[c.key]]).filter(([, cell]) => cell?.v != null && cell.b !== "<");
      const sign = c.better === "higher" ? 1 : -1;
      const top = told.reduce((max, [, cell]) => (max === null || sign * cell.v > sign * max.v ? cell : max), null);
      best.set(c.key, new Set(told.filter(([, cell]) => cell.t === top.t).map(([name]) => name)));
    }
  };

  const LEGEND = {
    front: "no tokenizer or codec of this suite does as well at this rate (bpp of the same task) or less, so the row of the lowest rate is always bold",
    best: "best of the tokenizers and codecs that are shown, whatever the rate",
  };
  const showLegend = () => {
    const parts = [state.bold === "none" ? "" : `Bold: ${LEGEND[state.bold]}.`, "↑ more is better, ↓ less is better. Click a heading to sort, best first, inside each block; point at one for its definition."];
    if (hasReported) parts.push("Upright: measured. Italic: reported by a paper under its own protocol, never ranked with measured numbers.");
    byId("legend").textContent = parts.filter(Boolean).join(" ");
  };

  const mark = () => {
    const [key, way] = (state.sort || "").split(":");
    dt.columns().every(function (i) {
      const th = this.header(), own = i === 1 ? "name" : given[i - 2]?.key;
      if (own === key && key) th.setAttribute("aria-sort", way === "asc" ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });
  };

  const apply = () => {
    const keys = state.cols ? state.cols.split(",").filter((key) => byKey.has(key)) : presets[state.preset] ?? presets[DEFAULT];
    shownKeys = columns.map((c) => c.key).filter((key) => keys.includes(key));
    const [key, way] = (state.sort || "").split(":");
    const own = columns.filter((c) => shownKeys.includes(c.key) || c.key === key);
    const column = key === "name" ? 1 : own.findIndex((c) => c.key === key) + 2;
    const order = column > 1 || key === "name" ? [[column, way]] : [];
    for (const [of, box] of boxes) box.checked = shownKeys.includes(of);
    const parts = `${own.map((c) => c.key)} ${shownKeys}`;
    const fresh = parts !== built;
    if (fresh) {
      build(own, order);
      built = parts;
    } else {
      dt.search(state.q ?? "");
      dt.order(order);
    }
    if (state.bold === "best") {
      if (!fresh) dt.draw();
      findBest();
    }
    if (!fresh || state.bold === "best") dt.rows().invalidate("data").draw();
    mark();
    showLegend();
  };

  const readControls = () => {
    state.q = byId("search").value;
    state.bold = byId("bold").value;
    state.ci = byId("intervals").checked ? "1" : "";
    state.delta = byId("deltas")?.checked ? "1" : "";
    state.curves = byId("curves")?.checked ? "1" : "";
    state.source = source.value;
    for (const [key, select] of selects) state[key] = select.value;
    for (const [key, [low, high]] of ranges) state[key] = low.value || high.value ? `${low.value}~${high.value}` : "";
  };
  const toAddress = () => {
    const { bold, source: from, delta, preset: name, ...rest } = state;
    writeState({ ...rest, bold: bold === "front" ? "" : bold, source: from === "measured" ? "" : from, delta: delta ? "" : data.published ? "0" : "", preset: state.cols || name === DEFAULT ? "" : name });
  };
  const fromAddress = () => {
    const read = readState(), [sorted, way] = (read.sort ?? "").split(":");
    state = { preset: Object.hasOwn(presets, read.preset) ? read.preset : DEFAULT, cols: read.cols ?? "", sort: sorted ? `${sorted}:${way === "desc" ? "desc" : "asc"}` : "" };
    byId("search").value = read.q ?? "";
    byId("bold").value = Object.hasOwn(LEGEND, read.bold) || read.bold === "none" ? read.bold : "front";
    byId("intervals").checked = read.ci === "1";
    if (byId("deltas")) byId("deltas").checked = read.delta !== "0";
    if (byId("curves")) byId("curves").checked = read.curves === "1";
    source.value = Object.hasOwn(SOURCES, read.source) ? read.source : "measured";
    for (const [key, select] of selects) {
      select.value = read[key] ?? "";
      if (select.selectedIndex < 0) select.value = "";
    }
    for (const [key, pair] of ranges) (read[key] ?? "").split("~").slice(0, 2).forEach((x, i) => (pair[i].value = x));
    preset.value = state.cols ? "" : state.preset;
    if ([...selects.values()].some((x) => x.value) || source.value !== "measured") byId("filter-panel").open = true;
    readControls();
    apply();
  };
  const update = () => {
    readControls();
    toAddress();
    apply();
  };

  let waiting = 0;
  byId("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const control of [byId("bold"), byId("intervals"), byId("deltas"), byId("curves"), filters]) control?.addEventListener("change", update);
  reset.addEventListener("click", () => {
    byId("search").value = "";
    for (const select of selects.values()) select.value = "";
    for (const pair of ranges.values()) for (const input of pair) input.value = "";
    source.value = "measured";
    update();
  });
  preset.addEventListener("change", () => {
    if (preset.value) Object.assign(state, { preset: preset.value, cols: "" });
    update();
  });
  chooser.addEventListener("change", () => {
    state.cols = [...boxes].filter(([, box]) => box.checked).map(([key]) => key).join(",");
    preset.value = "";
    update();
  });
  scroll.addEventListener("click", (event) => {
    const th = event.target.closest("thead button")?.closest("th");
    if (!th) return;
    const i = dt.column(th).index(), key = i === 1 ? "name" : given[i - 2].key;
    const first = direction(key), [now, way] = (state.sort || "").split(":");
    const next = now !== key ? first : way === first ? (first === "asc" ? "desc" : "asc") : first;
    state.sort = `${key}:${next}`;
    update();
  });
  document.querySelector(".exports").addEventListener("click", (event) => {
    const kind = event.target.dataset?.export;
    if (!kind) return;
    if (kind === "link") return copy(event.target, location.href);
    const shown = shownKeys.map((key) => byKey.get(key));
    const groups = shown.reduce((all, c) => (all.at(-1)?.[0] === c.group ? (all.at(-1)[1]++, all) : [...all, [c.group, 1]]), []);
    const bold = state.bold === "none" ? "" : ` Bold: ${LEGEND[state.bold]}.`;
    const content = window.VTExport[kind]({
      rows: dt.rows({ search: "applied" }).data().toArray(), columns: shown, intervals: !!state.ci,
      suite: data.suite, caption: data.caption + bold, address: location.href, isBold, groups,
    });
    const [end, type] = { csv: ["csv", "text/csv"], json: ["json", "application/json"], latex: ["tex", "application/x-tex"] }[kind];
    save(`${data.suite.name}.${end}`, content, type);
  });
  onState(fromAddress);
  fromAddress();
})();
