"""The default table of `vtbench table --format latex`, compiled in a page of two columns."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from vtbench.base.locations import published_dir
from vtbench.leaderboard.aggregate import read_board
from vtbench.leaderboard.choice import find_lines, list_wanted
from vtbench.leaderboard.paper import MAX_COLUMNS, PaperTable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("pdflatex") is None,
        reason="needs pdflatex (Debian's texlive-latex-recommended)",
    ),
]

PAGE = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\setlength{\textwidth}{496pt}\setlength{\columnsep}{24pt}\setlength{\textheight}{650pt}
\begin{document}
Text.
%s
{\footnotesize\makeatletter\typeout{FOOTNOTESIZE \f@size}}
{\scriptsize\makeatletter\typeout{SCRIPTSIZE \f@size}}
\end{document}
"""
"""Text width and column separation of the usual styles (IEEE, ACM, CVPR: 496 pt or more)."""

SMALLEST_PT = 7


@pytest.mark.parametrize(
    ("columns", "best", "ci"), [(MAX_COLUMNS, "front", False), (3, "bold", True)]
)
def test_it_compiles_without_an_overfull_box_in_type_that_can_be_read(tmp_path, columns, best, ci):
    board = read_board(published_dir("embedded"))
    wanted = list_wanted(board)[:columns]
    chosen = [column for column in board.overview.columns if column in wanted]
    table = PaperTable(board, find_lines(board, ()), chosen, best=best, intervals=ci)
    text = table.render("latex")
    (tmp_path / "page.tex").write_text(PAGE % text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "page.log").read_text(encoding="latin-1")
    assert "Overfull" not in log
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    # The table has no other sizes than these two, and is not scaled.
    assert set(re.findall(r"\\(\w*size|tiny|small|large)\b", text)) <= {
        "footnotesize",
        "scriptsize",
    }
    assert "resizebox" not in text
    sizes = dict(re.findall(r"(FOOTNOTESIZE|SCRIPTSIZE) (\d+)", log))
    assert {name: int(size) >= SMALLEST_PT for name, size in sizes.items()} == {
        "FOOTNOTESIZE": True,
        "SCRIPTSIZE": True,
    }
