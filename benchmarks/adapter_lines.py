"""Lines of code of each adapter: `python benchmarks/adapter_lines.py`.

A row for each module of `vtbench/tokenizers` that entries of the registry name an adapter of: how many
adapters it has, how many entries name them, its lines, and those that are code (neither empty, nor a
comment, nor a docstring). Blocks that families share (`nn/`, `network`, `convnet`, `base`) are not
counted. Names on the command line choose modules; the last row is the sum and the mean an adapter.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

from vtbench.base.locations import package_dir
from vtbench.registry.adapters import OWN
from vtbench.registry.entries import load_registry

LIMIT = 150
"""Lines of code an adapter at most, on average."""


def count_code(source: str) -> int:
    """Return how many lines of a module hold code: no docstring, comment or empty line."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    passed = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in passed:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len((code & set(range(1, source.count("\n") + 1))) - prose)


def list_modules() -> dict[str, Counter[str]]:
    """Return the adapters of each module, with how many entries name each."""
    modules: dict[str, Counter[str]] = {}
    for entry in load_registry().values():
        module, _, adapter = entry.adapter.removeprefix(OWN).partition(":")
        if entry.adapter.startswith(OWN):
            modules.setdefault(module, Counter())[adapter] += 1
    return modules


def print_table(chosen: list[str]) -> float:
    """Print the table; return the mean of lines of code an adapter."""
    print("| module | adapters | entries | lines | of code | of code an adapter |")
    print("|---|---:|---:|---:|---:|---:|")
    totals = [0, 0, 0, 0]
    for module, adapters in sorted(list_modules().items()):
        if chosen and module not in chosen:
            continue
        path: Path = package_dir() / "tokenizers" / f"{module}.py"
        source = path.read_text(encoding="utf-8")
        numbers = [len(adapters), adapters.total(), source.count("\n"), count_code(source)]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        cells = " | ".join(map(str, numbers))
        print(f"| {module} | {cells} | {numbers[3] / numbers[0]:.0f} |")
    mean = totals[3] / max(totals[0], 1)
    print(f"| all | {' | '.join(map(str, totals))} | {mean:.0f} |")
    return mean


def main() -> int:
    """Return the exit code: 1 where the mean is over the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module", nargs="*", help="Modules; all of them if there is none.")
    return int(print_table(parser.parse_args().module) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
