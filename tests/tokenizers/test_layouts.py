"""Folders and files of autoencoders as people have them: what loads, and what a refusal says to do.

That each official layout gives the official figures is in tests/parity/test_library.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.base.records import SizePolicy, Spec
from vtbench.registry.entries import load_registry
from vtbench.tokenizers.diffusers_vae import DiffusersVae
from vtbench.tokenizers.layouts import convert_official
from vtbench.weights.entries import find_weights

CONFIG: dict[str, Any] = {
    "latent_channels": 4,
    "encoder_block_out_channels": [8, 8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8, 8],
    "num_encoder_blocks": [1, 1, 1, 1],
    "num_decoder_blocks": [1, 1, 1, 1],
}
SPEC = Spec(
    name="tiny",
    family="test",
    kind="continuous",
    quantizer="none",
    downsample=8,
    latent_channels=4,
    input_range=(-1.0, 1.0),
    size=SizePolicy(8),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network() -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    return AutoencoderTiny(**CONFIG).eval()


def load(weights: Path, **options: Any) -> DiffusersVae:
    return DiffusersVae(
        SPEC, class_name="AutoencoderTiny", config=CONFIG, weights=weights, **options
    )


def holds(tokenizer: DiffusersVae, network: Any) -> bool:
    found, wanted = tokenizer.model.state_dict(), network.state_dict()
    return all(torch.equal(found[key], wanted[key]) for key in wanted)


def official(network: Any, part: str) -> dict[str, Tensor]:
    """One of the two files of madebyollin/taesd, whose decoder has a clamp at place 0."""
    shift = part == "decoder"
    state = {}
    for key, tensor in network.state_dict().items():
        side, _, place, *rest = key.split(".")
        if side == part:
            state[".".join([str(int(place) + shift), *rest])] = tensor.clone()
    return state


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_authors_pair_of_files_loads_from_its_folder(
    network: Any, tmp_path: Path, ending: str
) -> None:
    for part in ("encoder", "decoder"):
        state, path = official(network, part), tmp_path / f"taesd_{part}.{ending}"
        torch.save(state, path) if ending == "pth" else save_file(state, path)
    assert holds(load(tmp_path), network)
    with pytest.raises(WeightsMismatch, match="give the folder"):
        load(tmp_path / f"taesd_encoder.{ending}")
    (tmp_path / f"taesd_decoder.{ending}").unlink()
    with pytest.raises(WeightsMissing, match=r"has no config\.json"):
        load(tmp_path)


def test_a_variant_alone_is_refused_with_the_option_that_measures_it(
    network: Any, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(
        WeightsMissing, match=r"variant fp16 alone, .*`--weights tiny=(.*)`"
    ) as caught:
        load(tmp_path)
    path = Path(str(caught.value).split("tiny=")[1].split("`")[0])
    assert holds(load(path), network)


def test_a_pipeline_s_root_stands_for_its_autoencoder(network: Any, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text(json.dumps({"vae": ["diffusers", "X"]}))
    entry = load_registry()["taesd"]
    found = find_weights(entry, tmp_path)
    assert found is not None and found.path == tmp_path / "vae"
    assert holds(load(found.path), network)
    with pytest.raises(
        WeightsMissing, match=r"it is a whole pipeline; give `--weights tiny=.*vae`"
    ):
        load(tmp_path)


def test_an_average_beside_the_model_is_chosen_by_wrapper_and_prefix(
    network: Any, tmp_path: Path
) -> None:
    state = network.state_dict()
    last = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    averaged = {f"vae.{key}": tensor for key, tensor in state.items()}
    torch.save({"model": last, "ema": averaged, "step": 5}, tmp_path / "both.pt")
    assert holds(load(tmp_path / "both.pt", wrapper="ema", prefix="vae."), network)
    with pytest.raises(WeightsMismatch, match=r"in which of them .*options\.wrapper"):
        load(tmp_path / "both.pt")
    with pytest.raises(WeightsMismatch, match=r"'vae\.': options\.prefix"):
        load(tmp_path / "both.pt", wrapper="ema")


@pytest.mark.parametrize("before", ["_orig_mod.", "module."])
def test_compiled_and_parallel_training_leave_no_trace(
    network: Any, tmp_path: Path, before: str
) -> None:
    state = {before + key: tensor.clone() for key, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    assert holds(load(tmp_path / "a.safetensors"), network)


def test_pickled_modules_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    for part in ("encoder", "decoder"):
        (tmp_path / f"{part}.pkl").write_bytes(b"a pickle of a module")
    entry = load_registry()["dall-e-dvae"]
    for given in (tmp_path, tmp_path / "encoder.pkl"):
        with pytest.raises(WeightsMissing, match=r"`vtbench convert dall-e-dvae .*encoder\.pkl`"):
            find_weights(entry, given)


def test_the_first_stage_is_taken_out_of_a_whole_generator() -> None:
    tensor = torch.zeros(2, 2, 1, 1)
    state = {
        "model.diffusion_model.input_blocks.0.weight": tensor,
        "first_stage_model.encoder.down.0.block.0.conv1.weight": tensor,
        "first_stage_model.decoder.up.1.block.0.conv1.weight": tensor,
        "first_stage_model.decoder.up.0.block.0.conv1.weight": tensor,
        "first_stage_model.decoder.mid.attn_1.q.weight": tensor,
        "first_stage_model.loss.weight": tensor,
    }
    converted = convert_official("AutoencoderKL", state, {})
    assert {key: tensor.ndim for key, tensor in converted.items()} == {
        "encoder.down_blocks.0.resnets.0.conv1.weight": 4,
        "decoder.up_blocks.0.resnets.0.conv1.weight": 4,
        "decoder.up_blocks.1.resnets.0.conv1.weight": 4,
        "decoder.mid_block.attentions.0.to_q.weight": 2,
    }
    assert convert_official("AutoencoderKL", converted, {}) is converted
