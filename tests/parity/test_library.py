"""Tokenizers out of library classes against figures that their official code gave on the same weights.

Each golden names the upstream repository, commit, class and config, and lists the official file's
tensors. Weights follow from those names (parity.derive), but for the factors under `scaled`, without
which a codebook would answer with one entry only. The adapter is given the official file as it is.
README.md says what a golden's keys mean.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.derive import derive_images, derive_tensor, digest_indices, digest_shapes, sample_values
from safetensors.torch import save_file
from torch import Tensor

from vtbench.base.records import SizePolicy, Spec

GOLDENS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "library").glob("*.json"))
}

TOLERANCE = 1e-4
"""Of the largest value. Both sides sum the same products in float32 in another order, which came to
at most 1e-6; a wrong constant anywhere is 1e-2 and more."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def derive_state(golden: dict[str, Any]) -> dict[str, Tensor]:
    """The official file's tensors by their official names."""
    state = {}
    for name, text in golden["checkpoint"].items():
        shape = tuple(int(side) for side in text.split("×")) if text else ()
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(shape, dtype=torch.int64)
        else:
            state[name] = derive_tensor(name, shape) * golden["scaled"].get(name, 1.0)
    assert digest_shapes({name: t.shape for name, t in state.items()}) == golden["shapes"]
    return state


def load(golden: dict[str, Any], state: dict[str, Tensor], path: Path) -> Any:
    ours = golden["ours"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    module, name = ours["adapter"].split(":")
    discrete = ours["kind"] == "discrete"
    spec = Spec(
        name="under-test",
        family="test",
        kind=ours["kind"],
        quantizer="any",
        downsample=ours["downsample"],
        codebook_size=ours["size"] if discrete else None,
        latent_channels=None if discrete else ours["size"],
        input_range=tuple(ours.get("input_range", (-1.0, 1.0))),
        size=SizePolicy(ours["downsample"]),
        stochastic=ours.get("stochastic", False),
    )
    adapter = getattr(importlib.import_module(module), name)
    return adapter(spec, class_name=ours["class_name"], config=ours["config"], weights=path)


def compare(golden: dict[str, Any], tokenizer: Any) -> list[str]:
    """Return which of the golden's figures the tokenizer does not give."""
    images = derive_images(golden["input"]["shape"], (0.0, 1.0))
    code = tokenizer.encode(images)
    low, high = golden["input"].get("range", (-1.0, 1.0))
    found = {"pixels": tokenizer.decode(code) * (high - low) + low}
    wrong = []
    if golden["indices"] is None:
        found["latents"] = code.latents
    else:
        assert list(code.indices.shape) == golden["indices"]["shape"]
        if digest_indices(code.indices) != golden["indices"]["sha256"]:
            wrong.append("indices")
    for what, tensor in found.items():
        assert list(tensor.shape) == golden[what]["shape"]
        values = torch.tensor(golden[what]["values"], dtype=torch.float64)
        gap = (torch.tensor(sample_values(tensor), dtype=torch.float64) - values).abs().max()
        if gap > TOLERANCE * values.abs().max():
            wrong.append(what)
    return wrong


@pytest.mark.parametrize("name", GOLDENS)
def test_ours_gives_what_the_official_code_gave(name: str, tmp_path: Path) -> None:
    golden = GOLDENS[name]
    assert set(golden["upstream"]) == {"repository", "commit", "class", "config"}
    tokenizer = load(golden, derive_state(golden), tmp_path / "official.safetensors")
    assert compare(golden, tokenizer) == []


@pytest.mark.parametrize("name", GOLDENS)
def test_the_golden_sees_a_wrong_tensor(name: str, tmp_path: Path) -> None:
    """The mutant: the weights of the first convolution, or of what stands for it, a tenth larger."""
    golden = GOLDENS[name]
    state = derive_state(golden)
    first = next(key for key, tensor in state.items() if tensor.ndim >= 2)
    state[first] = state[first] * 1.1
    assert compare(golden, load(golden, state, tmp_path / "official.safetensors"))


WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "asymmetric-vae-x1.5": {"act_fn": "relu"},
    "cosmos-cv8x8x8": {"patch_type": "rearrange"},
    "dc-ae-f32c32-in-1.0": {"decoder_act_fns": ["silu"] * 6},
    "dc-ae-f32c32-sana-1.0": {"decoder_act_fns": "relu"},
    "flux.2-vae": {"batch_norm_eps": 0.1},
    "kandinsky-2.2-movq": {"act_fn": "relu"},
    "taesd": {"upsample_fn": "bilinear"},
}


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_the_golden_sees_a_wrong_option(name: str, tmp_path: Path) -> None:
    """Options of the class that change neither a name nor a shape."""
    golden = GOLDENS[name]
    wrong = {**golden["ours"]["config"], **WRONG_OPTIONS[name]}
    golden = {**golden, "ours": {**golden["ours"], "config": wrong}}
    assert compare(golden, load(golden, derive_state(golden), tmp_path / "official.safetensors"))
