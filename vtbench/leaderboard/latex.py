"""A board as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.footnotes import describe_commit, describe_n, usual_n
from vtbench.leaderboard.words import (
    NO_CELL,
    blocks,
    describe_column,
    describe_line,
    find_front,
    format_cell,
    overview_columns,
)

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def render_latex(board: Board, published: Board | None) -> str:
    """Return leaderboard.tex: the overview as a tabular; needs the package booktabs."""
    columns = overview_columns(board, published)
    groups: dict[str, int] = {}
    for column in columns:
        groups[column.group] = groups.get(column.group, 0) + 1
    spans, rules, first = [], [], 4
    for group, width in groups.items():
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(group_title(group))}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    heads = " & ".join(escape_latex(describe_column(column)) for column in columns)
    notes = [suite_label(board.suite), describe_n(columns, board.complete)]
    text = [
        *(f"% {' '.join(note.split())}" for note in notes),
        "% Rendered by vtbench leaderboard; needs \\usepackage{booktabs}.",
        rf"\begin{{tabular}}{{lll{'r' * len(columns)}}}",
        r"\toprule",
        rf" & & & {' & '.join(spans)} \\",
        "".join(rules),
        rf"tokenizer & family & kind & {heads} \\",
        *_latex_rows(board, columns),
    ]
    if published is not None:
        records = [line.record for line in published.lines]
        commits = sorted({describe_commit(record) for record in records})
        devices = sorted({record.environment.device for record in records})
        other = ""
        if published.suite.sha256 != board.suite.sha256:
            other = f"another protocol, {suite_label(published.suite)}; "
        title = f"Published results ({other}commit {', '.join(commits)}; {', '.join(devices)})"
        heading = rf"\textbf{{{escape_latex(title)}}}"
        text += [r"\midrule", rf"\multicolumn{{{first - 1}}}{{l}}{{{heading}}} \\"]
        text += _latex_rows(published, columns)
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_rows(board: Board, columns: Sequence[Column]) -> Iterator[str]:
    usual = {column.key: usual_n(column, board.complete) for column in columns}
    fronts = {column.key: find_front(board.lines, column) for column in columns}
    for title, lines in blocks(board.lines):
        yield r"\midrule"
        yield rf"\multicolumn{{{len(columns) + 3}}}{{l}}{{\emph{{{escape_latex(title)}}}}} \\"
        for line in lines:
            cells = []
            for column in columns:
                text = escape_latex(
                    format_cell(line.cells.get(column.key, NO_CELL), column, usual[column.key])
                )
                cells.append(rf"\textbf{{{text}}}" if line.name in fronts[column.key] else text)
            names = map(escape_latex, (describe_line(line), line.family, line.kind))
            yield rf"{' & '.join([*names, *cells])} \\"


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is, on one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
