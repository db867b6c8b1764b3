"""What of a folder or file is an autoencoder of diffusers: its config, its tensors, and that both fit
the entry.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.files import read_bounded
from vtbench.base.schema import MAX_JSON_BYTES, load_json
from vtbench.tokenizers.layouts import LAYOUTS, Config, State, convert_official
from vtbench.weights.containers import PICKLES, SAFETENSORS
from vtbench.weights.states import load_state

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLE = "diffusion_pytorch_model.bin"
PIPELINE = "model_index.json"
"""In the root of a whole generator, whose autoencoder is the folder `vae`."""

SELF_REGISTERED = frozenset({"block_out_channels", "force_upcast"})
"""Keys that constructors of the library write into a config beside their own arguments."""

DEPRECATED_ATTENTION = (
    (re.compile(r"(\.attentions\.\d+)\.query\."), r"\1.to_q."),
    (re.compile(r"(\.attentions\.\d+)\.key\."), r"\1.to_k."),
    (re.compile(r"(\.attentions\.\d+)\.value\."), r"\1.to_v."),
    (re.compile(r"(\.attentions\.\d+)\.proj_attn\."), r"\1.to_out.0."),
)
"""How files of 2022 (sd-vae-ft-mse) name attention; the library's own loader renames them too."""


def _rename_attention(key: str) -> str:
    for pattern, replacement in DEPRECATED_ATTENTION:
        key = pattern.sub(replacement, key)
    return key


def find_files(
    name: str, class_name: str, weights: Path
) -> tuple[Config | None, Mapping[Path, str]]:
    """Return the folder's config, where it has one, and each file of tensors with what its keys lack in
    front.

    Raises WeightsMissing or WeightsMismatch unless there is exactly one thing to read.
    """
    if weights.is_file():
        if half := _find_parts(class_name, weights.parent, of=weights):
            both = " and ".join(path.name for path in half)
            raise WeightsMismatch(f"{name}: {weights.parent} has {both}: give the folder")
        return None, {weights: ""}
    if not weights.is_dir():
        raise WeightsMissing(f"{name}: {weights} is neither a folder nor a file")
    file = weights / (WEIGHTS if (weights / WEIGHTS).is_file() else PICKLE)
    if not file.is_file() and (parts := _find_parts(class_name, weights)):
        return None, parts
    for wanted, there in ((CONFIG, (weights / CONFIG).is_file()), (WEIGHTS, file.is_file())):
        if not there:
            raise WeightsMissing(f"{name}: {weights} has no {wanted}: {_advise(name, weights)}")
    if (weights / f"{WEIGHTS}.index.json").exists():
        raise WeightsMismatch(
            f"{name}: {weights} has {WEIGHTS}.index.json, which lists other files than {WEIGHTS}; "
            "remove one of the two"
        )
    return _read_config(name, class_name, weights), {file: ""}


def _find_parts(class_name: str, folder: Path, *, of: Path | None = None) -> Mapping[Path, str]:
    """Return the files of a class whose authors publish it in several, each with its prefix; none
    unless the folder has each exactly once. of: one that must be among them."""
    for layout in LAYOUTS.get(class_name, ()):
        found = {
            path: prefix
            for ending, prefix in (layout.parts or {}).items()
            for path in sorted(folder.glob(f"*{ending}.*"))
            if path.suffix in (*SAFETENSORS, *PICKLES)
        }
        if found and len(found) == len(layout.parts or ()) and (of is None or of in found):
            return found
    return {}


def _advise(name: str, folder: Path) -> str:
    """Return what to do with a folder that is not the library's: by what lies in it, else fetch."""
    if (folder / PIPELINE).is_file():
        return f"it is a whole pipeline; give `--weights {name}={folder / 'vae'}`"
    stem, suffixes = WEIGHTS.partition(".")[0], (*SAFETENSORS, *PICKLES)
    own = (WEIGHTS, PICKLE)
    single = sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.name not in own)
    for path in single:
        if path.name.startswith(f"{stem}."):
            variant = path.name.split(".")[1]
            return (
                f"it has the variant {variant} alone, whose values are rounded; "
                f"`--weights {name}={path}` measures that"
            )
    if len(single) == 1:
        return f"it has {single[0].name}; give `--weights {name}={single[0]}`"
    return f"run `vtbench fetch {name}`, or give `--weights {name}=FOLDER`"


def _read_config(name: str, class_name: str, folder: Path) -> Config:
    try:
        config = load_json(
            read_bounded(
                folder / CONFIG, max_bytes=MAX_JSON_BYTES, raise_as=WeightsMismatch, links=True
            )
        )
    except ValueError as error:
        raise WeightsMismatch(f"{name}: {folder / CONFIG} is not JSON ({error})") from None
    found = config.get("_class_name") if isinstance(config, dict) else None
    if found != class_name:
        raise WeightsMismatch(
            f"{name}: {folder / CONFIG} is of class {found}, the entry says {class_name}"
        )
    if config.get("quantization_config") is not None:
        raise WeightsMismatch(f"{name}: {folder} holds quantized weights; take the full ones")
    return dict(config)


def read_files(
    class_name: str, config: Config, files: Mapping[Path, str], *, wrapper: str | None, prefix: str
) -> State:
    """Return the tensors of the files by the library's names. Raises as `load_state`."""
    state: State = {}
    for path, before in files.items():
        part = load_state(path, wrapper=wrapper, prefix=prefix, rename=_rename_attention)
        state |= {before + key: tensor for key, tensor in part.items()}
    return convert_official(class_name, state, config)


def merge_configs(
    name: str,
    network: Any,
    found: Config | None,
    declared: Config | None,
    *,
    inert: Collection[str],
) -> dict[str, Any]:
    """Return the arguments of the class: those of config.json, or else those that the entry has.

    inert: keys of published configs that no version of the class reads.

    Raises WeightsMismatch where both are there and contradict each other, or for a key of config.json
    that the installed library would drop (it would build another network than was trained), and
    RegistryError where neither is there or the entry has an argument that the class does not.
    """
    class_name = network.__name__
    arguments = inspect.signature(network.__init__).parameters
    if declared is not None:
        if not isinstance(declared, Mapping):
            raise RegistryError(f"{name}: options.config is no mapping")
        if unknown := sorted(str(key) for key in declared if key not in arguments):
            raise RegistryError(
                f"{name}: options.config.{unknown[0]}: {class_name} takes no such argument"
            )
    if found is None:
        if declared is None:
            raise RegistryError(
                f"{name}: there is no {CONFIG} and the entry has no options.config: the "
                f"architecture of {class_name} is not known"
            )
        return dict(declared)
    known = set(arguments) | SELF_REGISTERED | set(inert)
    if unknown := sorted(key for key in found if key not in known and not key.startswith("_")):
        raise WeightsMismatch(
            f"{name}: {CONFIG}: the installed diffusers' {class_name} does not know "
            f"{', '.join(unknown)}; a newer diffusers may"
        )
    for key, value in (declared or {}).items():
        there = found.get(key, arguments[key].default)
        # JSON and YAML have lists where the library's defaults have tuples.
        if json.dumps(there) != json.dumps(value):
            raise WeightsMismatch(f"{name}: {key}: the entry says {value}, {CONFIG} has {there}")
    return {key: value for key, value in found.items() if key in arguments}
