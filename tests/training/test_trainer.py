"""Training of reference tokenizers: data that no suite has, resumption, codebooks, exports."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vtbench import images as pixels
from vtbench.base.errors import OutputError, RegistryError
from vtbench.cli import main
from vtbench.registry.entries import Entry, load_entry
from vtbench.registry.recipe import Training
from vtbench.suites.batches import load_pixels
from vtbench.suites.suites import load_suite
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.nn.quantize import BinaryCode, Codebook, MultiScale, ScalarCode
from vtbench.training import data, steps, trainer
from vtbench.training.losses import edge_loss
from vtbench.training.quantization import (
    CodebookAverage,
    Quantized,
    measure_imbalance,
    quantize,
    smooth,
)

ENTRY = """\
title: A small VQ
family: llamagen
adapter: vtbench.tokenizers.vqgan:LlamaGen
options:
  config:
    {channels: 32, multipliers: [1], latent: 32, width: 4, haar: 3, blocks: 1, middle: b, norm: none}
kind: discrete
quantizer: vq-l2
downsample: 8
codebook_size: 64
input_range: [-1, 1]
size: {multiple: 8, policy: pad}
licence: Apache-2.0
weights: {source: local, path: none.safetensors}
description: Trained by a test.
training:
  {seed: 3, steps: 30, batch: 4, crop: 32, rate: 0.002, warmup: 5, average: 0.9, drawn: 8,
   commitment: 0.25, unquantized: 5}
"""
RUN = 16  # pixels in a row that two pictures would share if one were cut from the other


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    path = tmp_path / "registry" / "small-vq.yaml"
    path.parent.mkdir()
    path.write_text(ENTRY, encoding="utf-8")
    return path


def list_runs(picture: np.ndarray, count: int = 200) -> list[bytes]:
    """The bytes of `count` runs of RUN pixels that have at least six colours."""
    rng = np.random.default_rng(0)
    found: list[bytes] = []
    for _ in range(50 * count):
        row = rng.integers(picture.shape[0])
        column = rng.integers(picture.shape[1] - RUN + 1)
        run = picture[row, column : column + RUN]
        if len(np.unique(run, axis=0)) >= 6:
            found.append(run.tobytes())
        if len(found) == count:
            break
    return found


def share_runs(picture: np.ndarray, other: np.ndarray) -> bool:
    content = other.tobytes()
    return any(run in content for run in list_runs(picture))


@pytest.mark.slow
def test_no_training_photograph_is_in_a_suite() -> None:
    samples = load_suite("embedded").samples
    evaluated = {sample.sha256 for sample in samples}
    photographs = data.load_photographs()
    assert len(photographs) == 3
    for photograph in photographs.values():
        assert pixels.pixel_sha256(photograph) not in evaluated
        for top in range(0, photograph.shape[0] - 255, 64):
            for left in range(0, photograph.shape[1] - 255, 64):
                crop = np.ascontiguousarray(photograph[top : top + 256, left : left + 256])
                assert pixels.pixel_sha256(crop) not in evaluated
    # A crop elsewhere would have another digest, but not other rows of pixels.
    tried = 0
    for sample in samples:
        if sample.task == "reconstruction" and sample.subset == "whole":
            picture = load_pixels(sample)
            tried += len(list_runs(picture)) > 100
            assert not any(share_runs(picture, photograph) for photograph in photographs.values())
    assert tried >= 8
    china = photographs["china.jpg"]
    assert share_runs(china[37:201, 111:333], china)  # what the search would find


def test_no_crop_overlaps_the_held_out_squares() -> None:
    places = np.arange(427 * 640).reshape(427, 640, 1)
    held = set(data.cut_held_out(places).flat)
    left, top = (set(part.flat) for part in data.cut_parts(places))
    assert len(held) == 256 * 256
    assert not held & (left | top)
    assert held | left | top == set(places.flat)


@pytest.mark.slow
def test_pictures_follow_from_seed_and_step() -> None:
    recipe = Training(seed=5, steps=9, batch=3, crop=48, rate=0.1, drawn=8)
    once, again = data.Pictures(recipe), data.Pictures(recipe)
    once.make_batch(0)  # what was drawn before must not matter
    batch = once.make_batch(7)
    assert torch.equal(batch, again.make_batch(7))
    assert batch.shape == (3, 3, 48, 48) and batch.min() >= 0 and batch.max() <= 1
    assert not torch.equal(batch, once.make_batch(8))
    other = data.Pictures(recipe.model_copy(update={"seed": 6}))
    assert not torch.equal(batch, other.make_batch(7))
    assert all(once.draw(index).std() > 5 for index in range(8))


@pytest.mark.slow
def test_training_lowers_the_loss_and_its_export_loads(entry: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["train-reference", "small-vq", "--registry", str(entry.parent), "--device", "cpu"]
    assert main([*arguments, "--steps", "200", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in trainer.read_log(out)]
    losses = [line["mse"] for line in lines if line["kind"] == "train"]
    assert len(losses) == 2 and losses[1] < 0.8 * losses[0]
    assert next(line for line in lines if line["kind"] == "sources")["china.jpg"]
    assert 0 < next(line for line in lines if line["kind"] == "use")["codebook"] <= 1
    assert (out / "curve.svg").read_bytes().startswith(b"<?xml")
    assert main([*arguments, "--steps", "200", "--out", str(out)]) == 2  # no --resume
    assert main([*arguments, "--steps", "201", "--resume", "--out", str(out)]) == 2

    # What the adapter loads strictly is the average that the trainer held, in half precision.
    loaded = load_entry(entry)
    again = trainer.Trainer(
        loaded, loaded.training.model_copy(update={"steps": 200}), out, device="cpu"
    )
    again.restore()
    exported = again.load_export()
    assert again.weights.read_bytes() == again.export()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    # The trainer's layout of memory is the faster one; kernels for it sum in another order.
    rounded = again.average.half().float().to(memory_format=torch.contiguous_format)
    with torch.inference_mode():
        direct = (rounded(image * 2 - 1) + 1) / 2
    assert torch.equal(exported.decode(exported.encode(image)), direct)


def train(entry: Path, out: Path, **more: object) -> bytes:
    return trainer.train_reference(load_entry(entry), out, device="cpu", **more).read_bytes()


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_the_same(
    entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_STEPS", 10)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    whole = train(entry, tmp_path / "whole")

    def stop(done: int, total: int, note: str) -> None:
        if done == 20:  # logged and not saved: the checkpoint is of step 10
            raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "log.jsonl").write_text('{"step": 7, "kind": "train"}\n', encoding="utf-8")
    for folder in ("cut", "mutant"):
        with pytest.raises(KeyboardInterrupt):
            train(entry, tmp_path / folder, report=stop)
    assert train(entry, tmp_path / "cut", resume=True) == whole
    logs = [
        [line for line in trainer.read_log(tmp_path / folder) if "held-out" not in line]
        for folder in ("whole", "cut")
    ]
    assert logs[0] == logs[1]
    with pytest.raises(OutputError, match="another recipe"):
        train(entry, tmp_path / "cut", resume=True, seed=4)

    # Without the optimizer's state it would be another network.
    path = tmp_path / "mutant" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for moments in state["optimizer"]["state"].values():
        moments["exp_avg"].zero_()
    torch.save(state, path)
    assert train(entry, tmp_path / "mutant", resume=True) != whole


def test_an_entry_without_a_recipe_is_refused(entry: Path, tmp_path: Path) -> None:
    entry.write_text(ENTRY.split("training:")[0], encoding="utf-8")
    with pytest.raises(RegistryError, match="no recipe"):
        train(entry, tmp_path / "out")


VQ = "{channels: 32, multipliers: [1], latent: 32, width: 4, haar: 3, blocks: 1, middle: b, norm: none}"
VIT = "{width: 16, depth: 1, heads: 2, norm_in: false}"
CONVNET = "haar: 2, multipliers: [1, 1], channels: 32, blocks: 1, middle: b"
DC_AE = """
    latent_channels: 4
    encoder_block_types: [ResBlock, ResBlock, ResBlock, ResBlock]
    decoder_block_types: [ResBlock, ResBlock, ResBlock, ResBlock]
    encoder_block_out_channels: [8, 16, 16, 16]
    decoder_block_out_channels: [8, 16, 16, 16]
    encoder_layers_per_block: [0, 1, 1, 1]
    decoder_layers_per_block: [0, 1, 1, 1]
    encoder_qkv_multiscales: [[], [], [], []]
    decoder_qkv_multiscales: [[], [], [], []]"""
FAMILIES: dict[str, dict[str, str]] = {
    "kl": {
        "vqgan:LlamaGen": "ldm_kl:LdmKl",
        VQ: f"{{{CONVNET}, latent: 4, width: 4, moments: true}}",
        "codebook_size: 64": "latent_channels: 4",
        "discrete": "continuous",
        "commitment: 0.25": "kl: 0.001",
    },
    "dc-ae": {
        "vqgan:LlamaGen": "diffusers_vae:DiffusersVae",
        "  config:": "  class_name: AutoencoderDC\n  config:",
        f"\n    {VQ}": DC_AE,
        "codebook_size: 64": "latent_channels: 4",
        "discrete": "continuous",
    },
    "fsq": {
        "vqgan:LlamaGen": "cosmos:CosmosImage",
        VQ: f"{{{CONVNET}, latent: 32, width: 5}}",
        "codebook_size: 64": "codebook_size: 4375",
    },
    "lfq": {
        "vqgan:LlamaGen": "lookup_free:OpenMagvit2",
        VQ: f"{{{CONVNET}, latent: 6}}",
        "commitment: 0.25": "commitment: 0.1, entropy: 0.1",
    },
    "bsq-scales": {
        "vqgan:LlamaGen": "multiscale:Infinity",
        VQ: "{haar: 3, multipliers: [1, 1], channels: 32, blocks: 1, latent: 6}",
        "downsample: 8": "downsample: 16",
        "multiple: 8, policy: pad": "multiple: 16, fixed: [256, 256], policy: resize",
        "crop: 32": "crop: 256",
        "batch: 4": "batch: 1",
    },
    "titok": {
        "vqgan:LlamaGen": "titok:Titok",
        VQ: f"{{encoder: {VIT}, decoder: {VIT}, tokens: 8, latent: 4, lookup: cosine}}",
        "downsample: 8\n": "",
        "[-1, 1]": "[0, 1]",
        "multiple: 8, policy: pad": "fixed: [64, 64], policy: resize",
        "crop: 32": "crop: 64",
    },
    "rae": {
        "vqgan:LlamaGen": "reference:SmallRae",
        VQ: f"{{encoder: {VIT}, decoder: {VIT}}}",
        "codebook_size: 64": "latent_channels: 16",
        "discrete": "continuous",
        "downsample: 8": "downsample: 16",
        "multiple: 8, policy: pad": "fixed: [64, 64], policy: resize",
        "crop: 32": "crop: 64",
        "commitment: 0.25": "masked: 0.07, noise: 0.8",  # two of thirty steps
    },
    "dito": {
        "vqgan:LlamaGen": "reference:SmallDito",
        VQ: f"{{network: {{{CONVNET}, norm: none, latent: 4}}, steps: 2, time: 4}}",
        "codebook_size: 64": "latent_channels: 4",
        "discrete": "continuous\nstochastic: true",
    },
    "var": {
        "vqgan:LlamaGen": "multiscale:Var",
        VQ: "{haar: 3, multipliers: [1, 1], channels: 32, blocks: 1, latent: 4, width: 4}",
        "downsample: 8": "downsample: 16",
        "multiple: 8, policy: pad": "multiple: 16, fixed: [256, 256], policy: resize",
        "crop: 32": "crop: 256",
        "batch: 4": "batch: 1",
    },
}


def write_family(entry: Path, family: str) -> Entry:
    text = ENTRY.replace("unquantized: 5", "unquantized: 1")
    for old, new in FAMILIES[family].items():
        assert old in text
        text = text.replace(old, new)
    entry.write_text(text, encoding="utf-8")
    return load_entry(entry)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_its_adapter_loads_the_export(
    family: str, entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = write_family(entry, family)
    training = trainer.Trainer(loaded, loaded.training, tmp_path / "out", device="cpu")
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    values = [training.train_step() for _ in range(3)]
    after = training.model.state_dict()
    still = [key for key in after if torch.equal(before[key], after[key])]
    assert not [key for key in still if "num_batches" not in key]
    assert all(np.isfinite(list(step.values())).all() for step in values)
    training.save()
    assert 5 < training.evaluate() < 25

    # In half precision the networks are another by rounding alone; the quantizers are not in it.
    seen: list[torch.dtype] = []

    def note(quantizer: nn.Module, vectors: Tensor) -> Quantized:
        words = quantize(quantizer, vectors)
        seen.extend((vectors.dtype, words.vectors.dtype, (vectors @ vectors.mT).dtype))
        return words

    monkeypatch.setattr(steps, "quantize", note)
    recipe = loaded.training.model_copy(update={"precision": "bfloat16"})
    half = trainer.Trainer(loaded, recipe, tmp_path / "half", device="cpu")
    first, second = half.train_step()["mse"], half.train_step()["mse"]
    assert second != values[1]["mse"]
    assert np.isclose(first, values[0]["mse"], rtol=0.02)
    assert set(seen) <= {torch.float32}
    assert bool(seen) == (loaded.kind == "discrete")
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_dc_ae_begins_all_but_linear(entry: Path, tmp_path: Path) -> None:
    loaded = write_family(entry, "dc-ae")
    latents = torch.randn(8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    bends = []
    for start in (
        build_tokenizer(loaded, device="cpu", random_weights=True),
        trainer.Trainer(loaded, loaded.training, tmp_path / "out", device="cpu").tokenizer,
    ):
        with torch.no_grad():
            there, back, middle = (
                start.model.eval().decode(z).sample for z in (latents, -latents, 0 * latents)
            )
        bends.append(float(((there + back) / 2 - middle).norm() / (there - back).norm()))
    assert bends[1] < 0.25 < 0.5 < bends[0]


@pytest.mark.slow
def test_tokens_without_places_begin_near_what_they_code(entry: Path, tmp_path: Path) -> None:
    write_family(entry, "titok")
    text = entry.read_text(encoding="utf-8").replace("tokens: 8", "tokens: 4")
    text = text.replace("width: 16, depth: 1, heads: 2", "width: 192, depth: 2, heads: 6")
    entry.write_text(text, encoding="utf-8")
    loaded = load_entry(entry)
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = nn.functional.interpolate(images, size=(64, 64))
    shares = []
    for start in (
        build_tokenizer(loaded, device="cpu", random_weights=True),
        trainer.Trainer(loaded, loaded.training, tmp_path / "out", device="cpu").tokenizer,
    ):
        network = start.model.eval()
        with torch.no_grad():
            codes = smooth(network.quantizer, network.compute_latents(images))
            # What part of a token's code differs from image to image.
            shares.append(float(codes.var(dim=0).sum(dim=0).mean()))
            changed = images.clone()
            changed[:, :, :16, :16] = 1 - changed[:, :, :16, :16]
            moved = smooth(network.quantizer, network.compute_latents(changed)) - codes
        moves = moved.square().sum(dim=1).mean(dim=(0, 1))
    assert 5 * shares[0] < shares[1]
    # Each has its quarter: the first that where a patch was changed.
    assert int(moves.argmax()) == 0 and moves[-1] < 0.1 * moves[0]


def test_separate_layers_of_attention_begin_as_one_does(entry: Path, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    for name, more in (("one", ""), ("three", ", apart: true")):
        write_family(entry, "titok")
        text = entry.read_text(encoding="utf-8").replace("heads: 2", f"heads: 2{more}")
        entry.write_text(text, encoding="utf-8")
        loaded = load_entry(entry)
        start = trainer.Trainer(loaded, loaded.training, tmp_path / name, device="cpu")
        with torch.no_grad():
            seen.append(start.model.compute_latents(images))
    torch.testing.assert_close(*seen)


@pytest.mark.slow
def test_a_frozen_encoder_stays_and_its_features_are_normalised(
    entry: Path, tmp_path: Path
) -> None:
    loaded = write_family(entry, "rae")
    assert steps.count_masked(loaded.training) == 2
    states = {}
    for noise in (0.0, 0.8):
        recipe = loaded.training.model_copy(update={"noise": noise})
        training = trainer.Trainer(loaded, recipe, tmp_path / "out", device="cpu")
        for step in range(5):
            if step == 2:
                before = copy.deepcopy(training.average.state_dict())
            training.train_step()
            if step == 2:
                frozen = copy.deepcopy(training.model.state_dict())
        states[noise] = after = training.model.state_dict()
        average = training.average.state_dict()
        for key, value in after.items():
            of_decoder = key.startswith(("tokens_in", "decoder", "head"))
            assert torch.equal(frozen[key], value) != of_decoder
            assert of_decoder or torch.equal(average[key], value)
            # The average is what was frozen, not the last step's network (a mutant that freezes that
            # would export another encoder than the one the decoder learned from).
            if key.startswith(("embedding", "encoder")):
                assert torch.equal(before[key], value)
    batches = [training.pictures.make_batch(2 + n) * 2 - 1 for n in range(trainer.STATISTICS_STEPS)]
    features = training.model.compute_features(torch.cat(batches)).flatten(0, 1)
    assert features.mean(dim=0).abs().max() < 1e-4  # sums of thousands of float32
    assert (features.std(dim=0) - 1).abs().max() < 1e-4
    assert training.model.deviation.min() > 0 and not torch.all(training.model.deviation == 1)
    # Noise is of the second part alone: the same encoder, another decoder.
    same = [key for key in after if torch.equal(states[0.0][key], states[0.8][key])]
    assert {key.split(".")[0] for key in same} == {"embedding", "encoder", "mean", "deviation"}


@pytest.mark.slow
def test_a_run_that_was_cut_off_before_the_encoder_is_frozen_goes_on_the_same(
    entry: Path, tmp_path: Path
) -> None:
    loaded = write_family(entry, "rae")
    exports = []
    for cut in (9, 2):  # frozen at the start of the third step
        out = tmp_path / str(cut)
        training = trainer.Trainer(loaded, loaded.training, out, device="cpu")
        for step in range(5):
            if step == cut:
                training.save()
                training = trainer.Trainer(loaded, loaded.training, out, device="cpu")
                training.restore()
            training.train_step()
        exports.append(training.export())
    assert len(set(exports)) == 1


@pytest.mark.slow
def test_an_encoder_that_learns_by_masks_does_not_see_them(entry: Path, tmp_path: Path) -> None:
    loaded = write_family(entry, "rae")
    training = trainer.Trainer(loaded, loaded.training, tmp_path, device="cpu")
    batch = training.pictures.make_batch(0) * 2 - 1

    def fill(images: Tensor) -> Tensor:
        return steps.fill_masks(training.model, images, torch.Generator().manual_seed(4))

    filled = fill(batch)
    masked = (filled != batch).any(dim=1, keepdim=True)
    shares = masked.float().mean(dim=(1, 2, 3))
    assert torch.equal(shares, torch.full((4,), 0.75))
    blocks = torch.nn.functional.avg_pool2d(masked.float(), 16)
    assert torch.equal(blocks, blocks.round())  # whole patches
    hidden = torch.where(masked, torch.rand(batch.shape), batch)
    assert torch.equal(torch.where(masked, fill(hidden), 0), torch.where(masked, filled, 0))
    shown = torch.where(masked, batch, torch.rand(batch.shape))
    assert not torch.equal(torch.where(masked, fill(shown), 0), torch.where(masked, filled, 0))


def test_a_flow_learns_from_every_time(entry: Path, tmp_path: Path) -> None:
    loaded = write_family(entry, "dito")
    training = trainer.Trainer(loaded, loaded.training, tmp_path, device="cpu")
    seen: list[tuple[Tensor, Tensor]] = []

    def estimate(code: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        seen.append((noisy, times))
        return noisy

    training.model.estimate = estimate
    batch = torch.zeros(400, 3, 8, 8)
    steps.estimate_noisy(training.model, batch, torch.Generator().manual_seed(0))
    noisy, times = seen[0]
    assert 0 < times.min() < 1 / 400 and 399 / 400 < times.max() <= 1
    assert torch.allclose(times.sort().values.diff(), torch.tensor(1 / 400), atol=1e-6)
    # Of an image of zeros, the deviation is the time: 192 values give it to 5 %, five of those 26 %.
    assert torch.allclose(noisy.flatten(1).std(dim=1), times, rtol=0.26)


def test_a_crop_of_another_size_than_the_network_takes_is_refused(
    entry: Path, tmp_path: Path
) -> None:
    loaded = write_family(entry, "titok")
    recipe = loaded.training.model_copy(update={"crop": 32})
    with pytest.raises(RegistryError, match="no other size"):
        trainer.Trainer(loaded, recipe, tmp_path, device="cpu")


QUANTIZERS: dict[str, tuple[nn.Module, int]] = {
    "nearest": (Codebook(32, 4), 4),
    "cosine": (Codebook(32, 4, "cosine"), 4),
    "bits": (BinaryCode(5), 5),
    "sphere": (BinaryCode(5, sphere=True), 5),
    "scalars": (ScalarCode((8, 8, 5)), 3),
    "scales": (MultiScale(Codebook(32, 4), (1, 2, 4), enlarge="bicubic", phis=2, width=4), 4),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_training_sees_the_values_of_inference(name: str) -> None:
    quantizer, width = QUANTIZERS[name]
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(2, width, 4, 4, generator=generator).requires_grad_()
    done = quantize(quantizer, vectors)
    with torch.no_grad():
        inference = quantizer.decode(quantizer.encode(vectors))
    # x + (q − x) is q up to the rounding of one sum.
    assert torch.allclose(done.vectors, inference, atol=1e-6)
    (gradient,) = torch.autograd.grad(done.vectors.square().sum(), vectors)
    assert gradient.abs().max() > 0
    assert done.commitment > 0


def test_bits_are_balanced_where_all_words_are_as_frequent() -> None:
    every = torch.tensor(
        [[1.0 if word >> bit & 1 else -1.0 for bit in range(6)] for word in range(64)]
    )
    assert float(measure_imbalance(every)) == pytest.approx(0, abs=1e-3)
    assert float(measure_imbalance(every[:1].repeat(64, 1))) == pytest.approx(1, abs=1e-2)
    # Each bit is half of the time 1, yet there are two words of 64.
    assert float(measure_imbalance(torch.cat([every[:1], every[-1:]]))) == pytest.approx(
        1 - 1 / 6, abs=1e-2
    )
    # More bits than are told apart at once: the mean over groups, here of a full and an empty one.
    wide = torch.cat(
        [every.repeat(64, 1), every.repeat_interleave(64, 0), -torch.ones(4096, 12)], 1
    )
    assert float(measure_imbalance(wide)) == pytest.approx(0.5, abs=1e-2)


def test_scalars_are_what_the_quantizer_rounds() -> None:
    quantizer = ScalarCode((8, 5))
    vectors = 2 * torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    half = torch.tensor([4.0, 2.0])[:, None, None]
    rounded = (smooth(quantizer, vectors) * half).round() / half
    assert torch.equal(rounded, quantizer.decode(quantizer.encode(vectors)))


def follow(codebook: Codebook, vectors: Tensor, rounds: int, *, revive: bool) -> Tensor:
    """How often each word is chosen after so many rounds of the same vectors."""
    words = CodebookAverage(codebook)
    codebook.entries.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for step in range(rounds):
        choices = quantize(codebook, vectors).choices
        words.follow(codebook, choices, revive=revive and step % 20 == 0, generator=generator)
    return torch.bincount(codebook.encode(vectors).flatten(), minlength=len(codebook.entries))


@pytest.mark.slow
def test_dead_words_come_back() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(8, 4, 16, 16, generator=generator)
    used = {}
    for revive in (False, True):
        codebook = Codebook(128, 4)
        with torch.no_grad():  # all but a few words are far from every vector
            codebook.entries.copy_(torch.randn(128, 4, generator=torch.Generator().manual_seed(1)))
            codebook.entries[4:] += 50
        used[revive] = int((follow(codebook, vectors, 200, revive=revive) > 0).sum())
    assert used[False] <= 4
    assert used[True] >= 120


def test_words_become_the_means_of_their_vectors() -> None:
    vectors = torch.tensor([[-1.0, -3.0, 2.0, 4.0]]).reshape(1, 1, 2, 2)
    codebook = Codebook(2, 1)
    with torch.no_grad():
        codebook.entries.copy_(torch.tensor([[-1.5], [1.5]]))
    follow(codebook, vectors, 30, revive=False)
    assert torch.allclose(codebook.entries, torch.tensor([[-2.0], [3.0]]), atol=1e-5)


def test_edge_loss_is_of_differences() -> None:
    assert edge_loss(torch.full((1, 3, 16, 16), 0.7)) == 0
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)  # 1 a column; 2 and 4 after shrinking
    assert torch.allclose(edge_loss(ramp), torch.tensor((1 + 2 + 4) / 3))
