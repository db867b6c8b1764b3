// Quality against rate for any two columns, contrast transfer and legibility.
"use strict";
(() => {
  const data = window.VTBENCH, Plotly = window.Plotly;
  const { escape, readState, writeState, onState, save, copy, option, byId } = window.VT;
  const COLOURS = ["#4269d0", "#d8452f", "#2e8b44", "#8a4be0", "#2b8cbe", "#9c6b4e", "#d14f8f", "#2f8f83", "#b07d00", "#7b7f88", "#5a6fb5", "#b03060"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const columns = new Map(data.columns.map((c) => [c.key, c]));
  const name = (c) => `${c.group} ${c.head}`;
  const rows = data.rows.filter((row) => row.source === "measured" && row.block !== "Originals" && !row.problem);
  const curves = {
    transfer: { title: "Contrast transfer", x: "frequency (cycles per pixel)", y: "contrast transfer (1: kept)", columns: data.columns.filter((c) => c.cpp != null), at: (c) => c.cpp, half: true },
    grid: { title: "Transfer on and off the grids", x: "frequency (cycles per pixel)", y: "transfer (1: kept)", points: (row) => row.transfer ?? [], half: true },
    legibility: { title: "Legibility by glyph height", x: "glyph height (px)", y: "character error rate", columns: data.columns.filter((c) => c.glyph != null && c.metric === "cer"), at: (c) => c.glyph, log: true },
  };
  for (const curve of Object.values(curves))
    curve.points ??= (row) => curve.columns.map((c) => [curve.at(c), row.cells[c.key]?.v]).filter(([, v]) => v != null).sort((p, q) => p[0] - q[0]);
  const firstOf = (metric) => data.columns.find((c) => c.metric === metric && !c.cpp && c.rate);
  const quality = ["psnr_db", "lpips_alex", "rfid", "ssim", "cer"].map(firstOf).filter(Boolean);
  const plots = new Map(quality.map((c) => [`${c.key}`, `${c.group} ${c.label} against rate`]));
  for (const [key, curve] of Object.entries(curves)) if (rows.some((row) => curve.points(row).length)) plots.set(key, curve.title);
  plots.set("any", "any two columns");
  const [DEFAULT] = plots.keys();
  for (const [key, text] of plots) byId("plot").append(option(key, text));
  for (const id of ["x", "y"]) byId(id).append(...data.columns.map((c) => option(c.key, name(c) + (c.table === "Overview" ? "" : ` – ${c.label}`))));

  const style = (key) => getComputedStyle(document.documentElement).getPropertyValue(key).trim();
  const layout = (x, y) => {
    // Over two decades and more the 2 and 5 between them would be read as numbers.
    const ticks = (log, values) => (log && values?.length && Math.max(...values) >= 100 * Math.min(...values) ? { dtick: 1, minor: { dtick: "D1", ticks: "outside" } } : {});
    const axis = ({ title: text, log, values }) => ({ title: { text: escape(text) }, type: log ? "log" : "linear", ...ticks(log, values), gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--soft"), automargin: true });
    return {
      xaxis: axis(x), yaxis: axis(y),
      paper_bgcolor: style("--bg"), plot_bgcolor: style("--bg"), font: { color: style("--ink"), family: "system-ui, DejaVu Sans, sans-serif", size: 12 },
      margin: { l: 60, r: 12, t: 20, b: 50 }, hovermode: "closest", hoverlabel: { namelength: -1 },
      legend: innerWidth < 700 ? { orientation: "h", y: -0.25 } : { itemwidth: 30 }, showlegend: true,
    };
  };
  const matches = (row, text) => !text || text.toLowerCase().split(/[\s,]+/).filter(Boolean).some((word) => `${row.name} ${row.facts.family} ${row.series}`.toLowerCase().includes(word));
  const NAMES = ["front", "all", "none"];
  const SYMBOLS = { Tokenizers: "circle", "Sanity rows": "x" };

  const drawPoints = (state) => {
    const x = columns.get(state.x), y = columns.get(state.y), series = new Map();
    for (const row of rows.filter((row) => matches(row, state.q))) {
      const p = [row.cells[x.key]?.v, row.cells[y.key]?.v];
      // A capped PSNR is no measurement of quality, and would press the others together.
      if ((y.metric === "psnr_db" && p[1] >= 100) || (x.metric === "psnr_db" && p[0] >= 100)) continue;
      if (p[0] == null || p[1] == null || (state.xlog && p[0] <= 0) || (state.ylog && p[1] <= 0)) continue;
      if (!series.has(row.series)) series.set(row.series, []);
      series.get(row.series).push([...p, row]);
    }
    const all = [...series.values()].flat();
    // What no other beats: less of x at better y. Sanity rows take no part.
    const better = (c, fallback) => (c.better ? c.better === "higher" : fallback);
    const sx = better(x, false) ? 1 : -1, sy = better(y, true) ? 1 : -1, ranked = all.filter((p) => p[2].competes);
    const front = ranked.filter((p) => !ranked.some((q) => sx * q[0] >= sx * p[0] && sy * q[1] >= sy * p[1] && (q[0] !== p[0] || q[1] !== p[1])));
    front.sort((p, q) => p[0] - q[0]);
    // Names of all tokenizers cover each other where there are many: those of the front are left then.
    const told = new Set(state.names === "all" ? all : state.names === "front" ? front : []);
    const traces = [...series].map(([title, points], i) => {
      points.sort((p, q) => p[0] - q[0]);
      const named = points.map((p) => (told.has(p) ? escape(p[2].name) : ""));
      const { block, joined } = points[0][2], codec = joined && points.length > 1;
      return {
        name: escape(title), x: points.map((p) => p[0]), y: points.map((p) => p[1]),
        text: named, textposition: "top left", textfont: { size: 10, color: style("--ink") }, cliponaxis: false,
        customdata: points.map((p) => escape(p[2].name)), hovertemplate: `%{customdata}<br>${escape(x.label)} %{x}<br>${escape(y.label)} %{y}<extra></extra>`,
        mode: `${codec ? "lines+" : ""}markers${named.some(Boolean) ? "+text" : ""}`, type: "scatter",
        marker: { size: 9, symbol: joined ? "square" : SYMBOLS[block], color: COLOURS[i % COLOURS.length], line: { width: 1, color: style("--bg") } }, line: { color: COLOURS[i % COLOURS.length], width: 1.4 },
      };
    });
    if (state.front) {
      traces.unshift({ name: "Pareto front", x: front.map((p) => p[0]), y: front.map((p) => p[1]), mode: "lines", type: "scatter", line: { dash: "dot", width: 2, color: style("--soft"), shape: "hv" }, hoverinfo: "skip" });
    }
    const values = (k) => all.map((p) => p[k]);
    return [traces, layout({ title: name(x), log: state.xlog, values: values(0) }, { title: name(y), log: state.ylog, values: values(1) })];
  };
  const drawCurves = (state) => {
    const curve = curves[state.plot], shown = rows.filter((row) => !row.curve && matches(row, state.q) && curve.points(row).length);
    const groups = new Map();
    const traces = shown.map((row, i) => {
      const points = curve.points(row), first = !groups.has(row.block);
      groups.set(row.block, 1);
      return {
        name: escape(row.name), x: points.map((p) => p[0]), y: points.map((p) => p[1]), type: "scatter", mode: "lines+markers",
        legendgroup: row.block, legendgrouptitle: first ? { text: escape(row.block) } : undefined,
        line: { color: COLOURS[i % COLOURS.length], dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length], width: 1.5 }, marker: { size: 5 },
        hovertemplate: `${escape(row.name)}<br>%{x:.4g}: %{y:.4g}<extra></extra>`,
      };
    });
    const made = layout({ title: curve.x, log: curve.log }, { title: curve.y });
    made.legend.groupclick = "toggleitem";
    if (curve.half) made.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0.5, y1: 0.5, line: { color: style("--soft"), width: 1, dash: "dash" } }];
    return [traces, made];
  };

  let state = {};
  const draw = async () => {
    const [traces, made] = state.plot in curves ? drawCurves(state) : drawPoints(state);
    await Plotly.react("figure", traces, made, { responsive: true, displaylogo: false, displayModeBar: false });
    const text = byId("plot").selectedOptions[0].textContent;
    byId("figure").setAttribute("aria-label", `${text}: ${traces.length} series`);
    for (const axes of document.querySelectorAll(".axes")) axes.hidden = state.plot in curves;
    const command = state.plot in curves ? `vtbench legibility` : `vtbench plot --x ${state.x} --y ${state.y} --out figure.pdf`;
    byId("command").textContent = command;
    byId("command").closest("p").hidden = state.plot in curves;
    const shown = state.plot in curves ? (curves[state.plot].columns ?? []).map((c) => c.key) : [state.x, state.y];
    const numbers = byId("numbers");
    numbers.href = `${numbers.getAttribute("href").split("#")[0]}#cols=${encodeURIComponent(shown.join(","))}`;
    document.body.dataset.drawn = String(traces.length);
  };
  const choose = (key) => {
    if (!columns.has(key)) return;
    const c = columns.get(key);
    Object.assign(state, { x: c.rate, y: key, xlog: "1", ylog: "" });
  };
  const toControls = () => {
    byId("plot").value = state.plot;
    byId("x").value = state.x;
    byId("y").value = state.y;
    byId("x-log").checked = !!state.xlog;
    byId("y-log").checked = !!state.ylog;
    byId("front").checked = !!state.front;
    byId("names").value = state.names;
    byId("search").value = state.q;
  };
  const fromAddress = () => {
    const read = readState();
    state = { plot: plots.has(read.plot) ? read.plot : read.x || read.y ? "any" : DEFAULT, front: read.front === "0" ? "" : "1", names: NAMES.includes(read.names) ? read.names : NAMES[0], q: read.q ?? "" };
    choose(columns.has(state.plot) ? state.plot : (quality[0] ?? data.columns.find((c) => c.rate))?.key);
    state.x ??= data.columns[0].key;
    state.y ??= data.columns[0].key;
    if (state.plot === "any") {
      if (columns.has(read.x)) Object.assign(state, { x: read.x, xlog: columns.get(read.x).log ? "1" : "" });
      if (columns.has(read.y)) Object.assign(state, { y: read.y, ylog: columns.get(read.y).log ? "1" : "" });
    }
    if (read.xlog != null) state.xlog = read.xlog === "1" ? "1" : "";
    if (read.ylog != null) state.ylog = read.ylog === "1" ? "1" : "";
    toControls();
    return draw();
  };
  const update = (event) => {
    const { id } = event.target;
    if (id === "plot") {
      state.plot = byId("plot").value;
      choose(state.plot);
      toControls();
    } else if (id === "x" || id === "y") {
      state[id] = byId(id).value;
      state[`${id}log`] = columns.get(state[id]).log ? "1" : "";
      state.plot = "any";
      toControls();
    }
    Object.assign(state, { xlog: byId("x-log").checked ? "1" : "", ylog: byId("y-log").checked ? "1" : "", front: byId("front").checked ? "1" : "", names: byId("names").value, q: byId("search").value });
    const any = state.plot === "any";
    writeState({
      plot: state.plot === DEFAULT ? "" : state.plot, x: any ? state.x : "", y: any ? state.y : "",
      xlog: state.plot in curves ? "" : state.xlog || "0", ylog: state.ylog, front: state.front ? "" : "0", names: state.names === NAMES[0] ? "" : state.names, q: state.q,
    });
    draw();
  };
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("change", update);
  byId("search").addEventListener("input", update);
  byId("save-svg").addEventListener("click", async () => {
    const address = await Plotly.toImage("figure", { format: "svg", width: 860, height: 480 });
    save(`${data.suite.name}.svg`, decodeURIComponent(address.slice(address.indexOf(",") + 1)), "image/svg+xml");
  });
  byId("save-pdf").addEventListener("click", () => {
    document.body.classList.add("print-figure");
    window.print();
    document.body.classList.remove("print-figure");
  });
  byId("copy-command").addEventListener("click", (event) => copy(event.target, byId("command").textContent));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  onState(fromAddress);
  fromAddress();
})();
