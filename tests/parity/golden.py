"""A golden's figures, and the adapter here that has to give them; what the tests of parity share."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from parity.derive import derive_images, derive_noise, derive_tensor, digest_indices, sample_values

from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers.network import NetworkTokenizer
from vtbench.tokenizers.nn.quantize import BinaryCode

FOLDER = Path(__file__).parent / "goldens"
GOLDENS = sorted(path.stem for path in FOLDER.glob("*.json"))

TOLERANCE = 1e-4
"""Of the largest value. Both sides sum the same products in float32 in another order, which came to
at most 7e-6 at full size; a wrong constant anywhere is 1e-2 and more."""


cached_tensor = functools.cache(derive_tensor)


def load_golden(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def adapt(golden: dict[str, Any]) -> tuple[type[NetworkTokenizer], Spec]:
    module, name = golden["ours"]["adapter"].split(":")
    facts = dict(golden["ours"]["spec"])
    fixed = facts.pop("fixed", None)
    size = SizePolicy(fixed=tuple(fixed), policy="resize") if fixed else SizePolicy(32)
    facts["input_range"] = tuple(map(float, facts["input_range"]))
    spec = Spec("under-test", "test", **facts, size=size)
    return getattr(importlib.import_module(module), name), spec


def official_shapes(golden: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    adapter, spec = adapt(golden)
    options = golden["ours"]["options"]
    plan = adapter.parse_config(spec, options["config"])
    with torch.device("meta"):
        network = adapter.make_network(spec, plan)
    shapes = {here: tuple(tensor.shape) for here, tensor in network.state_dict().items()}
    names = adapter.name_tensors(network, plan)
    assert set(names.values()) == set(shapes)  # no two tensors share an official name
    return {there: shapes[here] for there, here in names.items()}


def write_checkpoint(golden: dict[str, Any], path: Path, **change: torch.Tensor | None) -> Path:
    """Write derived weights as the official code lays its file out; a change of None removes."""
    layout = golden["checkpoint"]
    state: dict[str, Any] = {
        name: cached_tensor(name, shape) for name, shape in official_shapes(golden).items()
    }
    for name, tensor in change.items():
        state.pop(name)
        if tensor is not None:
            state[name] = tensor
    if layout["averaged"]:
        flat = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in state.items()}
        flat |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(3)}
        flat["model_ema.lossdiscriminatormain0weight"] = torch.zeros(2)
        # The weights that the optimiser left are others, and must not be read.
        state = {name: torch.zeros_like(tensor) for name, tensor in state.items()} | flat
    state |= {name: torch.zeros(shape) for name, shape in layout["others"].items()}
    state = {layout.get("prefix", "") + name: tensor for name, tensor in state.items()}
    if layout["wrapper"] is not None:
        for key in reversed(layout["wrapper"].split(".")):
            state = {key: state}
        state["epoch"] = 7
    torch.save(state, path)
    return path


def load_tokenizer(golden: dict[str, Any], path: Path) -> NetworkTokenizer:
    adapter, spec = adapt(golden)
    layout = golden["checkpoint"]
    return adapter(
        spec,
        **golden["ours"]["options"],
        weights=path,
        wrapper=layout["wrapper"],
        prefix=layout.get("prefix", ""),
        averaged=layout["averaged"],
    )


def compare(tokenizer: NetworkTokenizer, golden: dict[str, Any]) -> list[str]:
    """Return which of the golden's figures the tokenizer does not give."""
    images = derive_images(golden["input"]["shape"], tokenizer.spec.input_range)
    with torch.inference_mode():
        latents = tokenizer.model.compute_latents(images)
        code = settle_signs(tokenizer, images, golden)
        if (shape := golden["input"].get("noise")) is None:
            pixels = tokenizer.model.decode(code)
        else:
            pixels = tokenizer.model.denoise(code, derive_noise(shape))
    wrong = []
    for name, tensor in (("latents", latents), ("pixels", pixels)):
        expected = golden[name]
        assert list(tensor.shape) == expected["shape"]
        values = torch.tensor(expected["values"], dtype=torch.float64)
        gap = (torch.tensor(sample_values(tensor), dtype=torch.float64) - values).abs().max()
        if gap > TOLERANCE * values.abs().max():
            wrong.append(name)
    if golden["indices"] is None:
        assert torch.equal(code, latents)
    else:
        assert sum(grid.numel() for grid in lay_out(code)) == golden["indices"]["count"]
        if digest_indices(lay_out(code)) != golden["indices"]["sha256"]:
            wrong.append("indices")
    return wrong


def lay_out(code: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return the grids as goldens have them: the words of a token, where it has several (Infinity's
    bits, FlowMo's), come last."""
    grids = code if isinstance(code, tuple) else (code,)
    return tuple(grid.movedim(1, -1) if grid.ndim == 4 else grid for grid in grids)


TIE = 1e-6
"""Of the largest value: a sign of less than this is decided by the order of a processor's sums. Of
infinity-d64's 33,344 signs one has 7e-8, and AVX2 and AVX-512 give it differently; the next scale
sees what it left."""


def settle_signs(
    tokenizer: NetworkTokenizer, images: torch.Tensor, golden: dict[str, Any]
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """Return the code of the images; where its digest is not the golden's, the first one that is among
    those with one or two signs turned that are nearer to zero than `TIE`."""
    model = tokenizer.model
    own = model.encode(images)
    binary = [module for module in model.modules() if isinstance(module, BinaryCode)]
    expected = golden["indices"] and golden["indices"]["sha256"]
    if not binary or digest_indices(lay_out(own)) == expected:
        return own
    (quantizer,), ties = binary, []

    def encode(turned: tuple[tuple[int, int], ...]) -> Any:
        """Encode with these signs turned (call, place); note what else is a tie on the way."""
        calls = itertools.count()

        def turn(vectors: torch.Tensor) -> torch.Tensor:
            call, flat = next(calls), vectors.clone().flatten()
            near = (flat.abs() < TIE * flat.abs().max()).nonzero().flatten().tolist()
            ties.extend((call, place) for place in near if (call, place) not in ties)
            for at, place in turned:
                if at == call:
                    flat[place] = -flat[place] if flat[place] else TIE
            return BinaryCode.encode(quantizer, flat.reshape(vectors.shape))

        quantizer.encode = turn
        try:
            return model.encode(images)
        finally:
            del quantizer.encode

    encode(())
    for count in (1, 2):
        for turned in itertools.combinations(tuple(ties), count):
            if digest_indices(lay_out(code := encode(turned))) == expected:
                return code
    return own
