"""A board as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vtbench.leaderboard.aggregate import suite_label
from vtbench.leaderboard.board import Board, Column, Line
from vtbench.leaderboard.columns import group_title
from vtbench.leaderboard.footnotes import describe_n, usual_n
from vtbench.leaderboard.published import describe_published, find_delta, match_published
from vtbench.leaderboard.words import (
    NO_CELL,
    blocks,
    describe_column,
    describe_line,
    find_front,
    format_cell,
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
    columns = board.overview.columns
    known = match_published(board, published)
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
    notes += describe_published(board, published)
    text = [
        *(f"% {' '.join(note.split())}" for note in notes),
        "% Rendered by vtbench leaderboard; needs \\usepackage{booktabs}.",
        rf"\begin{{tabular}}{{lll{'r' * len(columns)}}}",
        r"\toprule",
        rf" & & & {' & '.join(spans)} \\",
        "".join(rules),
        rf"tokenizer & family & kind & {heads} \\",
        *_latex_rows(board, columns, known),
    ]
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_rows(
    board: Board, columns: Sequence[Column], known: Mapping[str, Line]
) -> Iterator[str]:
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
                text = rf"\textbf{{{text}}}" if line.name in fronts[column.key] else text
                if delta := find_delta(line, column, known):
                    text += rf" {{\scriptsize $\Delta$\,{escape_latex(delta)}}}"
                cells.append(text)
            names = map(escape_latex, (describe_line(line), line.family, line.kind))
            yield rf"{' & '.join([*names, *cells])} \\"


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is, on one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
