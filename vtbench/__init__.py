"""vtbench measures how much of an image a visual tokenizer keeps, at what bit rate and at what cost.

    import vtbench

    result = vtbench.evaluate("jpeg-q50")  # a tokenizer of the registry, or your own model
    result = vtbench.score("originals/", "reconstructions/")
    tokenizer = vtbench.load("jpeg-q50")  # code = tokenizer.encode(x); tokenizer.decode(code)

`import vtbench` does not import torch. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vtbench.base.errors import VtbenchError
from vtbench.base.version import __version__

if TYPE_CHECKING:
    from vtbench import metrics
    from vtbench.evaluation.catalogue import (
        list_metrics,
        list_suites,
        list_tokenizers,
        load,
        load_suite,
    )
    from vtbench.evaluation.checking import check
    from vtbench.evaluation.comparing import compare
    from vtbench.evaluation.evaluate import evaluate
    from vtbench.evaluation.result import Result, Score, read_results
    from vtbench.evaluation.score import score
    from vtbench.evaluation.wrap import wrap
    from vtbench.registry.entries import Entry
    from vtbench.suites.suites import Suite
    from vtbench.tokenizers.base import Code, Tokenizer

_PLACES = {
    "Code": "vtbench.tokenizers.base",
    "Entry": "vtbench.registry.entries",
    "Result": "vtbench.evaluation.result",
    "Score": "vtbench.evaluation.result",
    "Suite": "vtbench.suites.suites",
    "Tokenizer": "vtbench.tokenizers.base",
    "check": "vtbench.evaluation.checking",
    "compare": "vtbench.evaluation.comparing",
    "evaluate": "vtbench.evaluation.evaluate",
    "list_metrics": "vtbench.evaluation.catalogue",
    "list_suites": "vtbench.evaluation.catalogue",
    "list_tokenizers": "vtbench.evaluation.catalogue",
    "load": "vtbench.evaluation.catalogue",
    "load_suite": "vtbench.evaluation.catalogue",
    "metrics": "vtbench.metrics",
    "read_results": "vtbench.evaluation.result",
    "score": "vtbench.evaluation.score",
    "wrap": "vtbench.evaluation.wrap",
}

__all__ = [
    "Code",
    "Entry",
    "Result",
    "Score",
    "Suite",
    "Tokenizer",
    "VtbenchError",
    "__version__",
    "check",
    "compare",
    "evaluate",
    "list_metrics",
    "list_suites",
    "list_tokenizers",
    "load",
    "load_suite",
    "metrics",
    "read_results",
    "score",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'vtbench' has no attribute {name!r}")
    module = importlib.import_module(_PLACES[name])
    value = module if name == "metrics" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
