"""FlexTok: what its official file says of itself, and a prefix of its tokens. That it gives the official
figures is in tests/parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parity.golden import adapt, load_golden, write_checkpoint
from safetensors.torch import save_file

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.tokenizers.flextok import FlexTok, read_config

EMBEDDER = {"_target_": "…TimestepEmbedder", "max_timestep": 500.0}
VAE = {"_target_": "…StableDiffusionVAE", "scaling_factor": 0.7, "hf_hub_path": None}


def decoder(embedder: dict[str, Any]) -> str:
    return str({"module_dict": {"dec_time_embedder": embedder}})


def load(path: Path | None, **change: Any) -> FlexTok:
    golden = load_golden("flextok")
    adapter, spec = adapt(golden)
    config = {**golden["ours"]["options"]["config"], **change}
    tokenizer = adapter(spec, config=config, weights=path)
    assert isinstance(tokenizer, FlexTok)
    return tokenizer


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("flextok") / "official.pth"
    loaded: dict[str, torch.Tensor] = torch.load(
        write_checkpoint(load_golden("flextok"), path), weights_only=True
    )
    return loaded


def test_scaling_and_time_are_the_file_s(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path, unsaid = tmp_path / "model.safetensors", {"scaling": None, "longest": None}
    save_file(state, path, metadata={"vae": str(VAE), "decoder": decoder(EMBEDDER)})
    model = load(path, **unsaid).model
    assert (model.scaling, model.plan.longest, model.flow.time.factor) == (0.7, 500.0, 2.0)
    # What the entry says goes before it; the class's own default where the file's config says none.
    assert load(path, scaling=0.5, longest=None).model.scaling == 0.5
    save_file(state, path, metadata={"vae": str(VAE), "decoder": decoder({})})
    assert load(path, **unsaid).model.flow.time.factor == 1.0


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"vae": str({**VAE, "scaling_factor": None}), "decoder": decoder(EMBEDDER)},
        {"vae": str({**VAE, "scaling_factor": "0.7"}), "decoder": decoder(EMBEDDER)},
        {"vae": str({**VAE, "scaling_factor": -1}), "decoder": decoder(EMBEDDER)},
        {"vae": "__import__('os').abort()", "decoder": decoder(EMBEDDER)},
        {"vae": "(" * 5000, "decoder": decoder(EMBEDDER)},
        {"vae": " " * 200_000 + str(VAE), "decoder": decoder(EMBEDDER)},
        {"vae": str(VAE)},
    ],
)
def test_a_file_that_does_not_say_is_refused(
    metadata: dict[str, str] | None, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path, metadata=metadata)
    with pytest.raises(WeightsMismatch, match=r"say options\.config\.(scaling|longest), and the"):
        load(path, scaling=None, longest=None)


def test_what_is_no_safetensors_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="does not exist"):
        load(tmp_path / "none.safetensors", scaling=None)
    (tmp_path / "torn.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(WeightsMismatch, match=r"torn\.safetensors"):
        load(tmp_path / "torn.safetensors", scaling=None)
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors", metadata={"n": "3"})
    assert read_config(tmp_path / "one.safetensors") == {"n": 3}


@torch.inference_mode()
def test_the_first_tokens_are_those_of_the_whole_code() -> None:
    whole, some = load(None), load(None, kept=9)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    code, first = whole.encode(images), some.encode(images)
    assert first.tokens == (9,) and torch.equal(first.indices, code.indices[..., :9])
    assert not torch.equal(some.decode(first), whole.decode(code))
    # Of a longer code the same tokens give the same picture: what follows is the learned one.
    assert torch.equal(some.decode(first), whole.decode(first))
    with pytest.raises(RegistryError, match="kept: 65 of 64 tokens"):
        load(None, kept=65)
