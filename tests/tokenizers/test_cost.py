"""What the entries say of size and cost, counted from their architectures without weights; and the
commands that build an entry from its architecture alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vtbench.base.errors import RegistryError
from vtbench.cli import main
from vtbench.registry.entries import Entry, Gmac, load_registry
from vtbench.runs.request import change_decoder
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.cost import Cost, measure_cost

SHIPPED = {name: entry for name, entry in load_registry().items() if "config" in entry.options}

# Millions of parameters, then GMAC at 256×256 of encoder and decoder where known, counted apart from
# this code (of taef2 and asymmetric-vae-x2 in the official classes); the small
# decoder's 62.4 M stand on its model page.
REFERENCE: dict[str, tuple[float, float | None, float | None]] = {
    "sd-vae-ft-mse": (83.65, 136.4, 311.1),
    "sdxl-vae": (83.65, 136.4, 311.1),
    "sd3-vae": (83.82, 136.5, 311.2),
    "flux.1-vae": (83.82, 136.5, 311.2),
    "flux.2-vae": (84.05, 136.6, 311.2),
    "flux.2-vae-small-decoder": (62.4, None, None),
    "taesd": (2.45, 15.3, 17.7),
    "taef2": (2.677, None, None),
    "consistency-decoder": (655.44, 136.4, None),
    "asymmetric-vae-x1.5": (194.30, 136.4, 840.3),
    "asymmetric-vae-x2": (406.13, None, None),
    "amused-512-vq": (146.24, 108.2, 238.7),
    "kandinsky-2.2-movq": (67.83, 113.1, 237.1),
    "wuerstchen-vq": (18.4, None, None),
    "dc-ae-f32c32-sana-1.0": (312.25, 161.9, 261.5),
    "dc-ae-f32c32-in-1.0": (323.36, 260.7, 346.2),
    "dc-ae-f64c128-mix-1.0": (676.90, 263.2, 349.6),
    "dc-ae-f128c512-in-1.0": (1120.68, 263.8, 350.7),
    "hunyuanimage-2.1-vae": (405.58, 154.6, 265.1),
    "kvae-2d-1.0": (217.43, 189.0, 439.1),
    "qwen-image-vae": (126.89, 218.9, 353.0),
    "wan-2.1-vae": (126.89, 218.9, 353.0),
    "qwen-image-2.1-vae": (337.74, None, None),
    "wan-2.2-vae": (704.69, 152.3, 746.5),
    "emu3-vq": (270.74, None, None),
    "janus-pro-vq": (71.88, None, None),
    "flowmo-lo": (945.4, 479.0, 31 * 1808.0),  # 25 steps, 6 of them guided by a second call
    "vqgan-f16-1024": (72.14, None, None),
    "vqgan-f16-16384": (76.07, None, None),
    "ldm-kl-f8": (83.65, 136.4, 311.1),
    "mar-kl16": (66.46, 68.9, 125.1),
    "va-vae-f16d32": (69.84, 69.0, 126.1),
    "llamagen-ds16": (71.88, None, None),
    "llamagen-ds8": (70.11, None, None),
    "ibq-16384": (110.98, None, None),
    "ibq-262144": (173.9, None, None),
    "var-256": (108.95, None, None),
    "open-magvit2-256": (115.13, None, None),
    "maskbit-14bit": (54.49, None, None),
    "infinity-d16": (109.97, None, None),
    "infinity-d32": (110.12, None, None),
    "chameleon-vqgan": (68.72, None, None),
    "cosmos-ci8x8": (76.79, None, None),
    "cosmos-ci16x16": (81.51, None, None),
    "cosmos-di8x8": (79.00, None, None),
    "cosmos-di16x16": (83.72, None, None),
    "rae-dinov2-s": (436.67, 6.2, 110.7),
    "rae-dinov2-b": (501.64, 23.5, 110.8),
    "rae-dinov2-l": (719.72, 82.3, 110.9),
    "rae-mae-b": (500.85, 23.2, 110.8),
    "rq-vae-imagenet": (104.4, None, None),
    "dall-e-dvae": (53.79 + 43.8, None, None),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def architecture(entry: Entry) -> str:
    options = [entry.options.get(key) for key in ("class_name", "config")]
    return json.dumps([entry.adapter, options, entry.codebook_size, entry.size.fixed])


FIRST_OF_ITS_KIND = {architecture(entry): name for name, entry in reversed(SHIPPED.items())}


CALLS = {
    **{"flowmo-lo": 31, "flowmo-hi": 31, "d-ar": 8},
    # Every step of FlexTok's is guided, so one of its calls is a pair.
    **dict.fromkeys((name for name in SHIPPED if SHIPPED[name].adapter.endswith(":FlexTok")), 20),
}
"""How often a diffusion decoder calls its network, guided steps twice. Each call costs the same, and
as much time as a whole tokenizer to count."""


def measure_by_calls(entry: Entry, calls: int) -> Cost:
    first, second = (measure_cost(change_decoder(entry, "steps", steps)) for steps in (1, 2))
    assert first.decode_gmac is not None and second.decode_gmac is not None
    each = second.decode_gmac - first.decode_gmac
    return replace(first, decode_gmac=first.decode_gmac + (calls - 1) * each)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIRST_OF_ITS_KIND.values()))
def test_each_architecture_has_the_stored_cost(name: str) -> None:
    entry = SHIPPED[name]
    cost = measure_by_calls(entry, CALLS[name]) if name in CALLS else measure_cost(entry)
    assert cost.parameters == entry.parameters
    assert entry.gmac is not None
    # Stored with two decimals.
    assert cost.encode_gmac == pytest.approx(entry.gmac.encode, abs=0.006)
    assert cost.decode_gmac == pytest.approx(entry.gmac.decode, abs=0.006)
    assert cost.why is None


@pytest.mark.parametrize("name", SHIPPED)
def test_entries_of_one_architecture_store_one_cost(name: str) -> None:
    entry = SHIPPED[name]
    other = SHIPPED[FIRST_OF_ITS_KIND[architecture(entry)]]
    assert (entry.parameters, entry.gmac) == (other.parameters, other.gmac)


@pytest.mark.parametrize("name", REFERENCE)
def test_stored_costs_are_those_that_others_counted(name: str) -> None:
    entry = SHIPPED[name]
    parameters, encode, decode = REFERENCE[name]
    assert entry.parameters is not None and entry.gmac is not None
    for stored, reference in (
        (entry.parameters / 1e6, parameters),
        (entry.gmac.encode, encode),
        (entry.gmac.decode, decode),
    ):
        if reference is not None:
            # Half a percent: another architecture is further away, rounding and versions are not.
            assert stored == pytest.approx(reference, rel=0.005)


@pytest.mark.slow
def test_a_cost_is_the_architectures() -> None:
    """The mutant: a decoder with one block more is another cost; one that cannot run has none."""
    entry = SHIPPED["taesd"]
    wide = {**entry.options["config"], "num_decoder_blocks": [3, 3, 3, 2]}
    options = {**entry.options, "config": wide}
    cost = measure_cost(entry.model_copy(update={"options": options}))
    assert cost.parameters != entry.parameters and entry.gmac is not None
    assert cost.encode_gmac == pytest.approx(entry.gmac.encode, abs=0.006)
    assert cost.decode_gmac is not None and entry.gmac.decode is not None
    assert cost.decode_gmac > 1.02 * entry.gmac.decode
    options["config"] = {**wide, "decoder_block_out_channels": [64, 64, 64, 128]}
    with pytest.raises(RegistryError, match="taesd: Invalid channel dimensions"):
        measure_cost(entry.model_copy(update={"options": options}))


@pytest.mark.slow
def test_cost_is_linear_in_pixels_for_convolutions() -> None:
    small, large = (measure_cost(SHIPPED["taesd"], size) for size in (128, 256))
    assert small.encode_gmac is not None and large.encode_gmac is not None
    assert large.encode_gmac == pytest.approx(4 * small.encode_gmac, rel=1e-9)
    assert small.parameters == large.parameters


TINY: dict[str, Any] = {
    "title": "Tiny",
    "family": "test",
    "adapter": "vtbench.tokenizers.diffusers_vae:DiffusersVae",
    "options": {
        "class_name": "AutoencoderTiny",
        "config": {
            "encoder_block_out_channels": [8, 8],
            "decoder_block_out_channels": [8, 8],
            "num_encoder_blocks": [1, 1],
            "num_decoder_blocks": [1, 1],
            "latent_channels": 4,
        },
    },
    "kind": "continuous",
    "quantizer": "none",
    "downsample": 2,
    "latent_channels": 4,
    "input_range": [-1, 1],
    "size": {"multiple": 2},
    "licence": "none",
    "weights": {"source": "local", "path": "nowhere"},
    "description": "an architecture without weights",
}


def write(folder: Path, **changes: Any) -> list[str]:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")
    return ["--registry", str(folder)]


@pytest.mark.slow
def test_random_weights_come_from_the_seed_and_leave_no_trace(tmp_path: Path) -> None:
    write(tmp_path)
    entry = load_registry([tmp_path])["tiny"]
    before = torch.get_rng_state()
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def latents(seed: int) -> torch.Tensor:
        built = build_tokenizer(entry, device="cpu", seed=seed, random_weights=True)
        code = built.encode(images).latents
        assert code is not None
        return code

    assert torch.equal(latents(1), latents(1)) and not torch.equal(latents(1), latents(2))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RegistryError, match="the architecture is not in the entry"):
        build_tokenizer(SHIPPED["taesd"].model_copy(update={"options": {}}), random_weights=True)


@pytest.mark.slow
def test_check_with_random_weights_skips_what_needs_training_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = write(tmp_path)
    assert main(["check", "tiny", "--device", "cpu", *registry]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert main(["check", "tiny", "--device", "cpu", "--random-weights", *registry]) == 0
    out = capsys.readouterr().out
    assert "tiny: ok (code, size, values, deterministic, stateless," in out
    assert "random weights: range and levels not tried" in out
    # An entry that declares another shape than its architecture has does not get through.
    write(tmp_path, downsample=4, size={"multiple": 4})
    assert main(["check", "tiny", "--device", "cpu", "--random-weights", *registry]) == 2
    assert "downsample factor: the entry says 4" in capsys.readouterr().err
    assert main(["check", "identity", "--random-weights"]) == 2
    assert "the architecture is not in the entry" in capsys.readouterr().err
    for command in ("run", "reconstruct"):
        assert main([command, "--random-weights"]) == 2, "only check may do without weights"


@pytest.mark.slow
def test_show_measure_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = write(tmp_path)
    assert main(["show", "tiny", "--measure", *registry]) == 0
    assert "parameters" in capsys.readouterr().out
    cost = measure_cost(load_registry([tmp_path])["tiny"])
    write(tmp_path, parameters=cost.parameters, gmac={"encode": cost.encode_gmac})
    assert main(["show", "tiny", "--measure", *registry]) == 0
    assert capsys.readouterr().out.count("+0.00%") == 2
    write(tmp_path, parameters=round(cost.parameters * 1.006))
    assert main(["show", "tiny", "--measure", *registry]) == 1
    assert "-0.59%" in capsys.readouterr().out
    assert main(["show", "jpeg-q50", "--measure"]) == 2


@pytest.mark.slow
def test_a_cost_does_not_change_an_entrys_digest(tmp_path: Path) -> None:
    write(tmp_path)
    bare = load_registry([tmp_path])["tiny"]
    write(tmp_path, parameters=3, gmac={"decode": 1.5}, trained_on="ImageNet")
    full = load_registry([tmp_path])["tiny"]
    assert full.gmac == Gmac(decode=1.5) and bare.sha256 == full.sha256
    assert Cost(3, None, 1.5).why is None


ANOTHER_SD_VAE = """\
title: My SD-VAE
family: kl-vae
adapter: vtbench.tokenizers.diffusers_vae:DiffusersVae
options:
  class_name: AutoencoderKL
  config:
    block_out_channels: [128, 256, 512, 512]
    down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D]
    up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D]
    layers_per_block: 2
    latent_channels: 4
kind: continuous
quantizer: kl
downsample: 8
latent_channels: 4
input_range: [-1, 1]
size: {multiple: 8}
licence: Apache-2.0
weights: {source: hub, repo: me/my-sd-vae, licence: MIT}
description: SD-VAE, fine-tuned on my pictures.
"""


@pytest.mark.slow
def test_another_sd_vae_is_one_short_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(ANOTHER_SD_VAE.splitlines()) <= 30
    (tmp_path / "my-sd-vae.yaml").write_text(ANOTHER_SD_VAE, encoding="utf-8")
    entry = load_registry([tmp_path])["my-sd-vae"]
    assert measure_cost(entry).parameters == SHIPPED["sd-vae-ft-mse"].parameters
    assert main(["list", "--registry", str(tmp_path)]) == 0
    assert "my-sd-vae" in capsys.readouterr().out
