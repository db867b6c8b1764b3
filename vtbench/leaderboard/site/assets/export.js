// The shown rows and columns as CSV, JSON and LaTeX.
"use strict";
window.VTExport = (() => {
  const LATEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "`": "\\textasciigrave{}",
    "↑": "$\\uparrow$", "↓": "$\\downarrow$", "≥": "$\\geq$", "±": "$\\pm$", "→": "$\\to$",
    "∞": "$\\infty$", "–": "--", "×": "$\\times$", "Δ": "$\\Delta$", "⁹": "$^9$",
    "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
  };
  const latexText = (text) => [...String(text).replace(/\s+/g, " ")].map((c) => LATEX[c] ?? c).join("");

  // A cell that a spreadsheet would run as a formula is text.
  const csvCell = (value) => {
    let text = value == null ? "" : String(value);
    if (/^[=+\-@|%]./.test(text) && !/^[-+]?[0-9.]+(e[-+]?[0-9]+)?$/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  const toCsv = ({ rows, columns, intervals }) => {
    const ends = intervals ? [".low", ".high"] : [];
    const head = ["source", "run", "block"];
    for (const c of columns) head.push(c.key, ...(c.fact ? [] : ends.map((end) => c.key + end)));
    const lines = [head];
    for (const row of rows) {
      const line = [row.source, row.name, row.block];
      for (const c of columns) {
        if (c.fact) line.push(row.facts[c.key]);
        else {
          const cell = row.cells[c.key] ?? {};
          line.push(cell.v, ...(intervals ? [cell.l, cell.h] : []));
        }
      }
      lines.push(line);
    }
    return lines.map((line) => line.map(csvCell).join(",")).join("\n") + "\n";
  };

  const toJson = ({ rows, columns, suite, caption, address }) =>
    JSON.stringify({
      suite, caption, address,
      columns: columns.map(({ key, label, unit, better }) => ({ key, label, unit, better })),
      rows: rows.map((row) => ({
        run: row.name, source: row.source, block: row.block,
        cells: Object.fromEntries(columns.map((c) => {
          if (c.fact) return [c.key, row.facts[c.key] ?? null];
          const { v = null, l = null, h = null, n = null, s = "measured", w = null } = row.cells[c.key] ?? { s: "not-applicable" };
          return [c.key, { value: v, low: l, high: h, n, state: row.source === "reported" ? "reported" : s, reason: w }];
        })),
      })),
    }, null, 1) + "\n";

  // Widths at 8 pt type, as `vtbench table` reckons them.
  const DIGIT = 4.3, LETTER = 4.5, SMALL = 3.7, GAP = 6, COLUMN = 236, PAGE = 496;
  const text = (row, c) => (c.fact ? row.facts[c.key] ?? "" : row.cells[c.key]?.t ?? "");
  const measure = ({ rows, columns, intervals }) =>
    columns.reduce((width, c) => {
      const cells = rows.map((row) => DIGIT * String(text(row, c)).length +
        (intervals && row.cells[c.key]?.i ? SMALL * (row.cells[c.key].i.length + 1) : 0));
      return width + GAP + Math.max(LETTER * c.label.length, ...cells);
    }, LETTER * Math.max(9, ...rows.map((row) => row.name.length)));

  const toLatex = (shown) => {
    const { rows, columns, intervals, caption, isBold, groups } = shown;
    const width = measure(shown), env = width <= COLUMN ? "table" : "table*";
    const lines = ["% Needs \\usepackage{booktabs}."];
    if (width > PAGE) lines.push(`% About ${Math.round(width)} pt wide at 8 pt type; a page of two columns has ${PAGE} pt: choose fewer columns.`);
    lines.push(`\\begin{${env}}[t]`, "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
      `\\caption{${latexText(caption)}}`, `\\begin{tabular}{@{}l${columns.map((c) => (c.fact && !c.numeric ? "l" : "r")).join("")}@{}}`, "\\toprule");
    const spans = [], rules = [];
    let first = 2;
    for (const [group, size] of groups) {
      spans.push(`\\multicolumn{${size}}{c}{${latexText(group)}}`);
      if (group) rules.push(`\\cmidrule(lr){${first}-${first + size - 1}}`);
      first += size;
    }
    lines.push(` & ${spans.join(" & ")} \\\\`, rules.join(""),
      `tokenizer & ${columns.map((c) => latexText(c.label + ({ higher: " ↑", lower: " ↓" }[c.better] ?? ""))).join(" & ")} \\\\`);
    const units = columns.map((c) => (c.unit && c.unit !== c.label ? `(${c.unit})` : ""));
    if (units.some(Boolean)) lines.push(` & ${units.map(latexText).join(" & ")} \\\\`);
    let block = null;
    for (const row of rows) {
      if (row.block !== block) lines.push("\\midrule");
      block = row.block;
      const cells = columns.map((c) => {
        let cell = latexText(text(row, c));
        if (row.source === "reported" && cell) cell = `\\emph{${cell}}`;
        if (isBold(row, c)) cell = `\\textbf{${cell}}`;
        const interval = intervals && row.cells[c.key]?.i;
        return interval ? `${cell} {\\scriptsize ${latexText(interval)}}` : cell;
      });
      const name = latexText(row.name) + (row.source === "reported" ? " (reported)" : "");
      lines.push(`${name} & ${cells.join(" & ")} \\\\`);
    }
    lines.push("\\bottomrule", "\\end{tabular}", `\\end{${env}}`);
    return lines.join("\n") + "\n";
  };
  return { csv: toCsv, json: toJson, latex: toLatex };
})();
