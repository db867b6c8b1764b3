"""`--module MODULE:FUNCTION`: your own tokenizer without a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.base.errors import CellFailed, VtbenchError, describe_foreign
from vtbench.runs.request import Request
from vtbench.suites.suites import Suite


def plan_module(
    named: str,
    suite: Suite,
    names: Sequence[str],
    families: Sequence[str],
    options: Mapping[str, Any],
) -> Request:
    """Return the request that measures what a function of one's own returns.

    Args:
        named: "MODULE:FUNCTION"; the folder that vtbench is run in is searched first.
        suite: The suite with its images attached.
        names: Must be empty: nothing else is measured beside it.
        families: Must be empty.
        options: Of `plan_run`.

    Raises:
        VtbenchError: the module or function does not exist, or other tokenizers were named too.
        CellFailed: the function raised, or returned no model; the message has file and line.
    """
    from vtbench.evaluation.evaluate import describe_model, plan_given
    from vtbench.evaluation.wrap import wrap
    from vtbench.runs.reconstruction import LiveReconstructor
    from vtbench.tokenizers.base import Tokenizer

    if names or families:
        raise VtbenchError("--module is a tokenizer by itself: give no --tokenizer or --family")
    built = _call(named)
    tokenizer = built if isinstance(built, Tokenizer) else wrap(built)
    entry = describe_model(tokenizer, None)
    device = str(tokenizer.device)
    return plan_given(suite, entry, LiveReconstructor(tokenizer), device=device, **options)


def _call(named: str) -> Any:
    module, separator, function = named.partition(":")
    if not separator or not all(part.isidentifier() for part in (*module.split("."), function)):
        raise VtbenchError(f"--module {named}: expected MODULE:FUNCTION, as my_pkg.my_model:build")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        build = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise VtbenchError(f"--module {named}: {error}") from None
    except AttributeError:
        raise VtbenchError(f"--module {named}: {module} has no {function}") from None
    except Exception as error:
        raise CellFailed(f"--module {named}: {describe_foreign(error)}") from error
    try:
        return build()
    except Exception as error:
        raise CellFailed(f"--module {named}: {describe_foreign(error)}") from error
