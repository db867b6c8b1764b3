"""Checkpoints as people publish them → a state that fits a network exactly, or an error that names
the first key that does not.

Files are opened by safetensors or by `torch.load(weights_only=True)`, TorchScript archives by
`pickles`, which takes the tensors and leaves the program: nothing in any of them is executed.
What an entry has to say about a file is where the state lies in it (`wrapper`), which of its keys
are meant (`prefix`), and how they are called here (`rename`); nothing is guessed, because a file
with both `model` and `ema` holds two tokenizers.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.weights.containers import (
    PICKLES,
    SAFETENSORS,
    check_container,
    is_safetensors,
    is_torchscript,
)
from vtbench.weights.entries import CONVERTED
from vtbench.weights.pickles import PickledFile, name_tensors

WRAPPINGS = ("_orig_mod.", "module.")
"""What torch.compile and data-parallel training put before every key; no part of a network's names."""

Network = TypeVar("Network", bound=nn.Module)


def load_state(
    path: Path,
    *,
    wrapper: str | None = None,
    prefix: str = "",
    rename: Callable[[str], str | None] | None = None,
) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .bin, .pt, .pth, .ckpt or .jit file by key, on the CPU.

    wrapper: the key under which a pickle has its state ("model", "ema", "state_dict", "vae"; with
    dots for a mapping inside another); None for a file that is the state itself. A safetensors file
    has one only if `vtbench convert` made it; a TorchScript archive has none. prefix: only keys
    that start with it ("model_ema.", "vae."), without it; the others are left out. Without one,
    `WRAPPINGS` before every key are left out. rename: the key here of a key without prefix, or None
    for a tensor that is not part of the tokenizer (a discriminator's).

    Raises WeightsMissing for no file, WeightsMismatch for a damaged one, one that a safe load
    refuses, a wrapper or prefix that is not there, a key that is no text, an object that is no
    tensor, or two keys renamed to one.
    """
    if not path.is_file():
        raise WeightsMissing(f"{path} does not exist or is no file")
    content = _read(path, wrapper, prefix)
    prefix = prefix or _find_wrappings(content)
    state: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            if prefix:
                continue
            raise WeightsMismatch(f"{path}: {str(key)[:80]!r} is a key and no text")
        if not key.startswith(prefix):
            continue
        new = key.removeprefix(prefix)
        if rename is not None:
            renamed = rename(new)
            if renamed is None:
                continue
            new = renamed
        if not isinstance(value, Tensor):
            where = ""
            if isinstance(value, Mapping):
                where = " (in which of them is the state? options.wrapper of an entry says it)"
            raise WeightsMismatch(
                f"{path}: {key} is no tensor but {type(value).__name__}{where}; the file has "
                f"{_some(content)}"
            )
        if fault := _find_value_fault(value):
            raise WeightsMismatch(f"{path}: {key} {fault}")
        if new in state:
            raise WeightsMismatch(f"{path}: {origin[new]} and {key} are both renamed to {new}")
        state[new], origin[new] = value, key
    if not state:
        raise WeightsMismatch(
            f"{path}: no key starts with {prefix!r}; the file has {_some(content)}"
        )
    return state


def _find_value_fault(tensor: Tensor) -> str | None:
    """Return why a tensor cannot be weights: it is none that a layer computes with."""
    if tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided:
        return "is nested, quantized or sparse; weights are plain tensors"
    if tensor.is_meta:
        return "has no values (it was saved from the meta device)"
    return None


def has_nan(tensor: Tensor) -> bool:
    """Return whether a tensor of floats has NaN. It is asked of tensors that fit a network: a small file
    may hold thousands of views of one storage."""
    return tensor.dtype in _FLOATS and bool(tensor.isnan().any())


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _read(path: Path, wrapper: str | None, prefix: str) -> Mapping[Any, Any]:
    suffix = path.suffix.lower()
    if suffix not in (*SAFETENSORS, *PICKLES):
        if suffix == ".pkl":
            raise WeightsMismatch(
                f"{path} is a pickle of objects: `vtbench convert NAME {path}` takes its tensors out"
            )
        known = ", ".join((*SAFETENSORS, *PICKLES))
        raise WeightsMismatch(f"{path}: {path.suffix or 'no suffix'} is none of {known}")
    if not path.stat().st_size:
        check_container(path)
    if (found := is_safetensors(path)) != (suffix in SAFETENSORS):
        kind, ending = ("safetensors", "safetensors") if found else ("no safetensors", "pt")
        if found or zipfile.is_zipfile(path):
            raise WeightsMismatch(
                f"{path} is {kind}, whatever its name says: rename it to {path.stem}.{ending}"
            )
    check_container(path)
    if suffix in SAFETENSORS:
        return _read_safetensors(path, wrapper, prefix)
    if is_torchscript(path):
        return _read_torchscript(path, wrapper, prefix)
    return _unwrap(_read_pickle(path), wrapper, path)


def _find_wrappings(keys: Collection[Any]) -> str:
    """Return what of `WRAPPINGS` stands before every key, one or several."""
    found = ""
    while keys and (
        more := next(
            (one for one in WRAPPINGS if all(str(key).startswith(found + one) for key in keys)), ""
        )
    ):
        found += more
    return found


def _read_safetensors(path: Path, wrapper: str | None, prefix: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()
            below = ""
            if wrapper is not None:
                if CONVERTED not in (file.metadata() or {}):
                    raise WeightsMismatch(
                        f"{path} is a safetensors file, which cannot have {wrapper!r}"
                    )
                below = wrapper + "."
                if not any(key.startswith(below) for key in keys):
                    raise WeightsMismatch(f"{path} has no {wrapper!r}; it has {_some(keys)}")
            # The tokenizer may be a hundredth of the file (Janus-Pro): only its part is read.
            return {
                key.removeprefix(below): (
                    file.get_tensor(key) if key.startswith(below + prefix) else None
                )
                for key in keys
                if key.startswith(below)
            }
    except SafetensorError as error:
        raise WeightsMismatch(
            f"{path} is damaged or not complete ({error}); fetch it again"
        ) from None


def _read_pickle(path: Path) -> Any:
    import numpy as np

    # Losses and steps that a trainer logged as numpy scalars; files written under numpy 1 know
    # their constructor by its old name, which numpy 2 no longer answers to.
    scalar = importlib.import_module("numpy._core.multiarray").scalar
    harmless = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged pickle is a program that went wrong somewhere: it raises what it happens on.
        text = " ".join(str(error).split())
        if "Unsupported global" in text or "GLOBAL " in text:
            named = text.partition("GLOBAL ")[2].split(" ")[0]
            raise WeightsMismatch(
                f"{path} holds {named or 'objects'}, which a safe load refuses: `vtbench convert NAME "
                "FILE` takes its tensors out"
            ) from None
        reason = f"is damaged or not complete ({type(error).__name__}: {text[:120]})"
        raise WeightsMismatch(f"{path} {reason}; fetch it again") from None


def _read_torchscript(path: Path, wrapper: str | None, prefix: str) -> dict[str, Tensor | None]:
    """Return the modules' tensors under the names of their state_dict. The archive's program is not
    looked at; a tensor that is an attribute and neither parameter nor buffer is among them."""
    if wrapper is not None:
        raise WeightsMismatch(f"{path} is TorchScript, which cannot have {wrapper!r}")
    with PickledFile(path) as file:
        tensors = name_tensors(file.content)
        return {
            key: file.open(tensor) if key.startswith(prefix) else None
            for key, tensor in tensors.items()
        }


def _unwrap(content: Any, wrapper: str | None, path: Path) -> Mapping[Any, Any]:
    for key in wrapper.split(".") if wrapper else ():
        if not isinstance(content, Mapping) or key not in content:
            raise WeightsMismatch(f"{path} has no {wrapper!r}; it has {_some(content)}")
        content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsMismatch(f"{path} holds {type(content).__name__} and no mapping of tensors")
    return content


def _some(content: object) -> str:
    keys = [str(key) for key in content] if isinstance(content, Mapping | list) else []
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "") or "none"


def restore_dots(names: Collection[str]) -> Callable[[str], str | None]:
    """Return a `rename` for the averaged weights of latent-diffusion's LitEma, which registers each
    parameter under its name without the dots, beside `decay` and `num_updates`.

    names: the parameters' names as the state shall have them, from the same file's plain weights or
    from the network. A key that belongs to none of them is kept as it is, for `assign_state` to name.
    """
    dotted: dict[str, str] = {}
    for name in names:
        if (flat := name.replace(".", "")) in dotted:
            raise WeightsMismatch(f"{dotted[flat]} and {name} are the same without their dots")
        dotted[flat] = name
    return lambda key: None if key in ("decay", "num_updates") else dotted.get(key, key)


def assign_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put every tensor of the state into the network, which may have been built on the meta device.

    Tensors take the dtype that the network has (a float of any width becomes its float). Raises
    WeightsMismatch, with the network as it was, unless keys and shapes are exactly the network's,
    and after that if anything of it (a buffer that no file has) is still on the meta device.
    """
    expected = module.state_dict(keep_vars=True)
    faults = []
    for what, keys in (
        ("missing", sorted(expected.keys() - state.keys())),
        ("unexpected", sorted(state.keys() - expected.keys())),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            faults.append(f"{what} {keys[0]}{more}")
    shared = [key for key in expected if key in state]
    wrong = [key for key in shared if not _fits(state[key], expected[key])]
    if wrong:
        here, there = expected[wrong[0]], state[wrong[0]]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        faults.append(
            f"misshaped {wrong[0]}{more} (the file has {_describe(there)}, the network "
            f"{_describe(here)})"
        )
    if faults:
        name = type(module).__name__
        if hint := _find_prefix(expected.keys() - state.keys(), state):
            faults.append(
                f"the file's keys start with {hint!r}: options.prefix of an entry says so"
            )
        raise WeightsMismatch(f"the weights do not fit {name}: {'; '.join(faults)}")
    if unset := next((key for key in shared if has_nan(state[key])), None):
        raise WeightsMismatch(f"{unset} has NaN")
    fitted = {key: state[key].to(expected[key].dtype) for key in shared}
    module.load_state_dict(fitted, strict=True, assign=True)
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise WeightsMismatch(f"{type(module).__name__}: {key} is in no file and has no value")


def _find_prefix(missing: Collection[str], state: Mapping[str, Tensor]) -> str:
    """Return what the state has before each missing key; nothing where that is not one thing."""
    first = min(missing, default="")
    before = {key.removesuffix(first) for key in state if first and key.endswith("." + first)}
    prefix = before.pop() if len(before) == 1 else ""
    return prefix if prefix and all(prefix + key in state for key in missing) else ""


def build_network(
    make: Callable[[], Network],
    state: Mapping[str, Tensor] | None,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    seed: int = 0,
) -> Network:
    """Return make()'s network with the state's tensors, in eval mode, without gradients.

    With a state, parameters take no memory and no time until the file's tensors replace them. Without
    one they are random by the seed (for `vtbench check --random-weights`); on the device "meta" they
    have shapes only (for counting). Raises WeightsMismatch as `assign_state`.
    """
    device = torch.device(device)
    if device.type == "meta":
        with device:
            network = make()
    elif state is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = make()
    else:
        from accelerate import init_empty_weights

        with init_empty_weights():
            network = make()
        assign_state(network, state)
    # Libraries put warnings of their own into `to`.
    nn.Module.to(network, device, dtype)
    return network.eval().requires_grad_(False)


def _fits(given: Tensor, wanted: Tensor) -> bool:
    return given.shape == wanted.shape and given.is_floating_point() == wanted.is_floating_point()


def _describe(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) + f" {str(tensor.dtype).removeprefix('torch.')}"
