"""The diffusers adapter against the library called by hand, on tiny randomly initialised networks.

No public checkpoint is opened here: what is proven is that the adapter drives each class as the
library does, loads strictly, and refuses what does not fit.
"""

from __future__ import annotations

import copy
import importlib
import json
import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from vtbench.base.errors import RegistryError, VtbenchError, WeightsMismatch, WeightsMissing
from vtbench.cli import main
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.suites.image_folder import name_folder_suite
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Tokenizer
from vtbench.tokenizers.diffusers_files import CONFIG, PICKLE, WEIGHTS
from vtbench.tokenizers.diffusers_vae import WIRINGS, DiffusersVae, check_entry
from vtbench.weights.entries import find_weights

DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"

VQ: dict[str, Any] = {
    "block_out_channels": (4, 4, 8, 8),
    "down_block_types": (DOWN,) * 4,
    "up_block_types": (UP,) * 4,
    "norm_num_groups": 4,
    "latent_channels": 6,
    "vq_embed_dim": 4,
    "num_vq_embeddings": 48,
}

# case → (class, its config, downsample factor, latent channels or codebook size)
CASES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "kl": (
        "AutoencoderKL",
        {
            "block_out_channels": (4, 4, 8, 8),
            "down_block_types": (DOWN,) * 4,
            "up_block_types": (UP,) * 4,
            "norm_num_groups": 4,
            "latent_channels": 4,
        },
        8,
        4,
    ),
    "dc": (
        "AutoencoderDC",
        {
            "latent_channels": 4,
            "attention_head_dim": 4,
            "encoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
            "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
            "encoder_block_out_channels": (4, 8, 8),
            "decoder_block_out_channels": (4, 8, 8),
            "encoder_layers_per_block": (1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1),
            "encoder_qkv_multiscales": ((), (), (5,)),
            "decoder_qkv_multiscales": ((), (), (5,)),
            # BatchNorm, as the ImageNet checkpoints have it: wrong outside eval mode.
            "decoder_norm_types": ("batch_norm", "batch_norm", "rms_norm"),
            "decoder_act_fns": ("relu", "relu", "silu"),
        },
        4,
        4,
    ),
    "vq": ("VQModel", VQ, 8, 48),
    "vq-lookup": (
        "VQModel",
        {**VQ, "lookup_from_codebook": True, "mid_block_add_attention": False},
        8,
        48,
    ),
    "tiny": (
        "AutoencoderTiny",
        {
            "encoder_block_out_channels": (8, 8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8, 8),
            "num_encoder_blocks": (1, 1, 1, 1),
            "num_decoder_blocks": (1, 1, 1, 1),
            "latent_channels": 4,
        },
        8,
        4,
    ),
    "asymmetric": (
        "AsymmetricAutoencoderKL",
        {
            "down_block_types": (DOWN,) * 4,
            "down_block_out_channels": (4, 4, 8, 8),
            "up_block_types": (UP,) * 4,
            "up_block_out_channels": (8, 8, 8, 12),
            "norm_num_groups": 4,
            "latent_channels": 4,
        },
        8,
        4,
    ),
    "flux2": (
        "AutoencoderKLFlux2",
        {
            "block_out_channels": (4, 4, 8, 8),
            "down_block_types": (DOWN,) * 4,
            "up_block_types": (UP,) * 4,
            "norm_num_groups": 4,
            "latent_channels": 4,
        },
        16,
        16,
    ),
    "hunyuan": (
        "AutoencoderKLHunyuanImage",
        {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 8,
            "block_out_channels": (32, 32, 64),
            "layers_per_block": 1,
            "spatial_compression_ratio": 4,
            "sample_size": 64,
        },
        4,
        8,
    ),
    "kvae": (
        "AutoencoderKLKVAE",
        {
            "channels": 32,
            "num_enc_blocks": 1,
            "num_dec_blocks": 1,
            "z_channels": 4,
            "ch_mult": (1, 1, 1),
        },
        4,
        4,
    ),
    "paella": (
        "PaellaVQModel",
        {"embed_dim": 16, "bottleneck_blocks": 2, "num_vq_embeddings": 48},
        4,
        48,
    ),
    # The decoder's widths are in the config too: 27 thousand parameters instead of 655 million.
    "consistency": (
        "ConsistencyDecoderVAE",
        {
            "encoder_block_out_channels": (4, 4, 8, 8),
            "encoder_norm_num_groups": 4,
            "encoder_layers_per_block": 1,
            "decoder_block_out_channels": (4, 4, 8, 8),
            "decoder_norm_num_groups": 4,
            "decoder_layers_per_block": 1,
        },
        8,
        4,
    ),
}


WIDE = ("hunyuan", "kvae")
"""Cases whose library classes fix 32 groups: small pictures, or they take most of this file's time."""

DISCRETE = ("VQModel", "PaellaVQModel")
IN_UNIT_RANGE = ("PaellaVQModel",)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only lose time to the exchange between threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    """The random networks themselves: the reference, which never went through our loader."""
    built = {}
    for case, (class_name, config, _, _) in CASES.items():
        torch.manual_seed(0)
        library = importlib.import_module(WIRINGS[class_name].module)
        model = getattr(library, class_name)(**config).eval()
        if class_name in DISCRETE:  # the library's initial entries all lie at the origin
            quantizer = model.quantize if class_name == "VQModel" else model.vquantizer
            torch.nn.init.normal_(quantizer.embedding.weight, std=0.5)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
        if class_name == "ConsistencyDecoderVAE":
            # Estimates within the range, as those of the trained network are but for a few pixels:
            # the library does not clamp the first, the official code does (tests/parity).
            model.decoder_unet.conv_out.weight.data /= 10
        built[case] = model
    return built


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def write_entry(tmp_path: Path, case: str, folder: Path, **changes: Any) -> Path:
    """A registry folder with one entry `subject` for the case; changes replace its keys."""
    class_name, _, factor, size = CASES[case]
    discrete = class_name in DISCRETE
    entry: dict[str, Any] = {
        "title": "Test",
        "family": "test",
        "adapter": "vtbench.tokenizers.diffusers_vae:DiffusersVae",
        "options": {"class_name": class_name},
        "kind": "discrete" if discrete else "continuous",
        "quantizer": "vq" if discrete else "none",
        "downsample": factor,
        "codebook_size" if discrete else "latent_channels": size,
        "input_range": [0, 1] if class_name in IN_UNIT_RANGE else [-1, 1],
        "size": {"multiple": factor},
        "stochastic": class_name == "ConsistencyDecoderVAE",
        "licence": "none",
        "weights": {"source": "local", "path": str(folder)},
        "description": "random weights",
        **changes,
    }
    registry = tmp_path / "registry"
    registry.mkdir(exist_ok=True)
    (registry / "subject.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
    return registry


def load(
    tmp_path: Path, case: str, folder: Path, *, dtype: str = "fp32", seed: int = 0, **changes: Any
) -> Tokenizer:
    registry = load_registry([write_entry(tmp_path, case, folder, **changes)])
    return build_tokenizer(registry["subject"], device="cpu", dtype=dtype, seed=seed)


def pictures(n: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(7))


@torch.inference_mode()
def by_hand(model: Any, case: str, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Pad with numpy's reflection, call the library, crop; independent of vtbench."""
    class_name, _, factor, _ = CASES[case]
    model = copy.deepcopy(model).to(dtype)
    height, width = images.shape[-2:]
    pad = ((0, 0), (0, 0), (0, -height % factor), (0, -width % factor))
    padded = torch.from_numpy(np.pad(images.numpy(), pad, mode="reflect"))
    if class_name in IN_UNIT_RANGE:
        x = padded.to(dtype)
        latents = model.encode(x).latents
        indices = model.vquantizer(latents)[2][2]
        vectors = model.vquantizer.embedding.weight[indices]
        vectors = vectors.reshape(len(x), *latents.shape[-2:], -1).permute(0, 3, 1, 2)
        y = model.decode(vectors.contiguous()).sample
        return y.float()[..., :height, :width]
    x = (padded * 2 - 1).to(dtype)
    if class_name == "AutoencoderDC":
        y = model.decode(model.encode(x).latent).sample
    elif class_name == "AutoencoderKLFlux2":
        from diffusers import Flux2Pipeline

        latents = Flux2Pipeline._patchify_latents(model.encode(x).latent_dist.mean)
        mean = model.bn.running_mean.view(1, -1, 1, 1)
        deviation = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + 1e-4)
        latents = (latents - mean) / deviation * deviation + mean
        y = model.decode(Flux2Pipeline._unpatchify_latents(latents)).sample
    elif class_name == "AutoencoderTiny":
        y = model.decode(model.encode(x).latents).sample
    elif class_name == "VQModel":
        latents = model.encode(x).latents
        indices = model.quantize(latents)[2][2]
        vectors = model.quantize.embedding.weight[indices]
        vectors = vectors.reshape(len(x), *latents.shape[-2:], -1).permute(0, 3, 1, 2)
        vectors = vectors.contiguous()  # the layout decides which kernels run, and their rounding
        y = model.decoder(model.post_quant_conv(vectors))
        if dtype == torch.float32:
            # The library's own path quantizes inside and goes through z + (q − z), whose rounding
            # the decoder amplifies: hence not 1e-6. Another entry differs by more than 0.01.
            assert (model.decode(latents).sample - y).abs().max() <= 1e-4
    elif class_name == "ConsistencyDecoderVAE":
        # Noise of float32 in any dtype, where the library draws in the network's. The last estimate
        # is clamped by hand; the first of this network stays in the range (see `networks`).
        generator = torch.Generator().manual_seed(3)
        with pytest.MonkeyPatch.context() as patch:
            for module in (
                "models.autoencoders.consistency_decoder_vae",
                "schedulers.scheduling_consistency_decoder",
            ):
                patch.setattr(
                    f"diffusers.{module}.randn_tensor",
                    lambda shape, dtype, **_: torch.randn(shape, generator=generator).to(dtype),
                )
            y = model.decode(model.encode(x).latent_dist.mean).sample.clamp(-1, 1)
    else:
        y = model.decode(model.encode(x).latent_dist.mean).sample
    return ((y.float() + 1) / 2)[..., :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "dtype"), [((256, 256), "fp32"), ((333, 517), "fp32"), ((333, 517), "bf16")]
)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_library_called_by_hand(
    networks: dict[str, Any], tmp_path: Path, case: str, size: tuple[int, int], dtype: str
) -> None:
    tokenizer = load(
        tmp_path, case, save(networks[case], tmp_path / "weights"), dtype=dtype, seed=3
    )
    images = pictures(1, *(side // 4 if case in WIDE else side for side in size))
    got = tokenizer.decode(tokenizer.encode(images))
    torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    expected = by_hand(networks[case], case, images, torch_dtype)
    assert got.dtype == torch.float32 and got.shape == images.shape
    # The same operations on the same machine: any difference beyond fp32 rounding is ours. Only the
    # consistency decoder's sampler is ours too, and rounds its constants to bf16 elsewhere, which its
    # network passes on as up to four steps of 1/256; in fp32 it is held like the others.
    rounded = case == "consistency" and dtype == "bf16"
    assert (got - expected).abs().max() <= (2**-5 if rounded else 1e-6)
    assert got.std() > 1e-3, "a constant picture would prove nothing"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("case", ["kl", "dc"])
def test_a_run_of_a_local_checkpoint_writes_the_librarys_reconstruction(
    networks: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    dtype: str,
) -> None:
    """`vtbench run --registry FOLDER` from files to files, at both sizes, eight bits equal."""
    monkeypatch.chdir(tmp_path)
    registry = write_entry(tmp_path, case, save(networks[case], tmp_path / "weights"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    originals = []
    for n, size in enumerate([(256, 256), (333, 517)]):
        eight = (pictures(1, *size)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(eight).save(folder / f"{n}.png")
        originals.append(eight)
    arguments = ["--tokenizer", "subject", "--registry", str(registry), "--dtype", dtype]
    assert main(["run", "--images", str(folder), *arguments]) == 0
    run = (
        Path("results/local")
        / name_folder_suite(Path("pictures"))
        / ("subject" if dtype == "fp32" else "subject@bf16")
    )
    rows = {row["id"]: row for row in read_run(run).rows}
    for n, eight in enumerate(originals):
        images = torch.from_numpy(eight).permute(2, 0, 1)[None] / 255
        torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        decoded = by_hand(networks[case], case, images, torch_dtype)[0].permute(1, 2, 0)
        expected = np.floor(decoded.clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)
        error = (expected.astype(np.float64) - eight) ** 2
        assert rows[f"{n}.png"]["psnr_db"] == pytest.approx(
            # A run's channels-last sums come in another order: a pixel in hundreds rounds otherwise.
            10 * math.log10(255**2 / error.mean()),
            abs=1e-4,
        )
        shown = np.asarray(Image.open(run / "panel" / f"{n}.png"))
        left = (expected.shape[1] - shown.shape[1]) // 2  # the panel cuts what is wider than 384
        apart = shown.astype(int) - expected[:, left : left + shown.shape[1]]
        assert np.abs(apart).max() <= 1 and np.count_nonzero(apart) <= apart.size / 200


@pytest.fixture
def library_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the library's loggers, which do not propagate, let through."""
    library = logging.getLogger("diffusers")
    library.addHandler(caplog.handler)
    yield caplog
    library.removeHandler(caplog.handler)


@pytest.mark.parametrize("case", CASES)
def test_built_in_the_asked_dtype_for_inference(
    networks: dict[str, Any], tmp_path: Path, library_log: pytest.LogCaptureFixture, case: str
) -> None:
    weights = save(networks[case], tmp_path / "weights")
    library_log.clear()
    tokenizer = load(tmp_path, case, weights, dtype="bf16")
    assert not library_log.records
    assert isinstance(tokenizer, DiffusersVae)
    model = tokenizer.model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert not getattr(model, "use_tiling", False) and not getattr(model, "use_slicing", False)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_shapes_and_bits_of_the_code(networks: dict[str, Any], tmp_path: Path, case: str) -> None:
    tokenizer = load(tmp_path, case, save(networks[case], tmp_path / "weights"))
    class_name, _, factor, size = CASES[case]
    code = tokenizer.encode(pictures(2, 45, 64))
    rows, columns = math.ceil(45 / factor), 64 // factor
    assert code.tokens == (rows * columns,) * 2
    if class_name in DISCRETE:
        assert isinstance(code.indices, torch.Tensor) and code.latents is None
        assert code.indices.dtype == torch.int64 and code.indices.shape == (2, rows, columns)
        assert code.indices.min() >= 0 and code.indices.max() < size
        assert len(code.indices.unique()) > 4
        assert code.bits == pytest.approx((rows * columns * math.log2(48),) * 2)
    else:
        assert code.latents is not None and code.latents.shape == (2, size, rows, columns)
        assert code.bits == (float(rows * columns * size * 16),) * 2


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_image_does_not_depend_on_its_batch(
    networks: dict[str, Any], tmp_path: Path, case: str
) -> None:
    tokenizer = load(tmp_path, case, save(networks[case], tmp_path / "weights"))
    images = pictures(3, 64, 56)
    together = tokenizer.encode(images)
    decoded = tokenizer.decode(together)
    for i in range(3):
        alone = tokenizer.encode(images[i : i + 1])
        if together.indices is not None:
            assert torch.equal(together.indices[i : i + 1], alone.indices)
        # Convolutions round differently in a batch, and FLUX.2's statistics amplify it; another noise
        # would differ by more than 0.1.
        assert (tokenizer.decode(alone) - decoded[i : i + 1]).abs().max() < 5e-5


@pytest.mark.slow
def test_vq_indices_do_not_depend_on_the_batch_even_at_ties(
    networks: dict[str, Any], tmp_path: Path
) -> None:
    """An encoder that rounds differently in a batch, made plain: it adds the batch's size. Between
    two entries that are nearly equidistant, any such rounding flips an index."""
    tokenizer = load(tmp_path, "vq", save(networks["vq"], tmp_path / "weights"))
    assert isinstance(tokenizer, DiffusersVae)
    encoder = tokenizer.model.encoder.forward
    tokenizer.model.encoder.forward = lambda x: encoder(x) + len(x)
    images = pictures(3, 32, 32)
    together = tokenizer.encode(images).indices
    alone = [tokenizer.encode(image[None]).indices for image in images]
    assert isinstance(together, torch.Tensor)
    assert all(torch.equal(together[i : i + 1], one) for i, one in enumerate(alone))


@pytest.mark.slow
def test_consistency_decoder_follows_the_seed_and_nothing_else(
    networks: dict[str, Any], tmp_path: Path
) -> None:
    weights = save(networks["consistency"], tmp_path / "weights")
    images = pictures(2, 64, 64)
    tokenizer = load(tmp_path, "consistency", weights, seed=5, stochastic=True)
    code = tokenizer.encode(images)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tokenizer.decode(code)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    torch.manual_seed(2)
    assert torch.equal(first, tokenizer.decode(code))
    other = load(tmp_path, "consistency", weights, seed=6)
    assert (other.decode(code) - first).abs().max() > 1e-3
    # `steps: 2` is what the scheduler has anyway
    options = {"class_name": "ConsistencyDecoderVAE", "steps": 2}
    same = load(tmp_path, "consistency", weights, seed=5, options=options)
    assert torch.equal(first, same.decode(code))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["kl", "vq"])
def test_the_code_alone_is_enough_to_decode(
    networks: dict[str, Any], tmp_path: Path, case: str
) -> None:
    weights = save(networks[case], tmp_path / "weights")
    images = pictures(1, 40, 48)
    encoder, decoder = load(tmp_path, case, weights), load(tmp_path, case, weights)
    code = encoder.encode(images)
    assert torch.equal(decoder.decode(code), encoder.decode(code))
    with pytest.raises(ValueError, match="decodes one tensor"):
        decoder.decode(type(code)((1,), (8.0,), payload=(b"x",), fit=code.fit))


@pytest.mark.slow
def test_deprecated_attention_names_load(networks: dict[str, Any], tmp_path: Path) -> None:
    """sd-vae-ft-mse and its age name the attention query/key/value/proj_attn."""
    weights = save(networks["kl"], tmp_path / "weights")
    images = pictures(1, 32, 32)
    expected = load(tmp_path, "kl", weights).decode(load(tmp_path, "kl", weights).encode(images))
    tensors = load_file(weights / WEIGHTS)
    renamed = {}
    for key, tensor in tensors.items():
        for new, old in (
            (".to_q.", ".query."),
            (".to_k.", ".key."),
            (".to_v.", ".value."),
            (".to_out.0.", ".proj_attn."),
        ):
            key = key.replace(new, old)
        renamed[key] = tensor
    assert len(set(renamed) - set(tensors)) == 16
    save_file(renamed, weights / WEIGHTS, metadata={"format": "pt"})
    tokenizer = load(tmp_path, "kl", weights)
    assert torch.equal(tokenizer.decode(tokenizer.encode(images)), expected)


def test_a_16_bit_file_is_read_as_fp32(networks: dict[str, Any], tmp_path: Path) -> None:
    """The published consistency decoder and FLUX.1 files hold 16-bit floats."""
    weights = save(networks["kl"], tmp_path / "weights")
    halves = {key: tensor.half() for key, tensor in load_file(weights / WEIGHTS).items()}
    save_file(halves, weights / WEIGHTS, metadata={"format": "pt"})
    tokenizer = load(tmp_path, "kl", weights)
    assert isinstance(tokenizer, DiffusersVae)
    assert {p.dtype for p in tokenizer.model.parameters()} == {torch.float32}


def damage_missing(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["encoder.conv_in.weight"], tensors["decoder.conv_out.bias"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def damage_extra(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS) | {f"loss.{i}": torch.zeros(2) for i in range(5)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def damage_shape(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["encoder.conv_in.weight"] = torch.zeros(8, 3, 5, 5)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def damage_truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def damage_pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


DAMAGES = {
    "missing": (
        damage_missing,
        WeightsMismatch,
        "do not fit AutoencoderKL: missing decoder.conv_out.bias and 1 more",
    ),
    "extra": (damage_extra, WeightsMismatch, "unexpected loss.0 and 4 more"),
    "shape": (
        damage_shape,
        WeightsMismatch,
        "misshaped encoder.conv_in.weight (the file has 8×3×5×5 ",
    ),
    "truncated": (damage_truncated, WeightsMismatch, "damaged or not complete"),
    "git lfs pointer": (damage_pointer, WeightsMissing, "is a Git LFS pointer"),
    "class": (
        lambda folder: change_config(folder, _class_name="AutoencoderKLWan"),
        WeightsMismatch,
        "is of class AutoencoderKLWan, the entry says AutoencoderKL",
    ),
    "config of a network that cannot be built": (
        lambda folder: change_config(folder, norm_num_groups=7),
        WeightsMismatch,
        "AutoencoderKL from",
    ),
    "config of another network": (
        lambda folder: change_config(folder, layers_per_block=2),
        WeightsMismatch,
        "missing decoder.up_blocks.0.resnets.2.conv1.bias and 63 more",
    ),
    "quantized": (
        lambda folder: change_config(folder, quantization_config={"quant_method": "bnb"}),
        WeightsMismatch,
        "quantized weights",
    ),
    "not JSON": (
        lambda folder: (folder / CONFIG).write_text("{"),
        WeightsMismatch,
        "is not JSON",
    ),
    "JSON, but no mapping": (
        lambda folder: (folder / CONFIG).write_text("[]"),
        WeightsMismatch,
        "is of class None",
    ),
    "no config": (
        lambda folder: (folder / CONFIG).unlink(),
        WeightsMissing,
        "has no config.json: run `vtbench fetch subject`",
    ),
    "no weights": (
        lambda folder: (folder / WEIGHTS).unlink(),
        WeightsMissing,
        f"has no {WEIGHTS}: run `vtbench fetch subject`",
    ),
    "config of a newer library": (
        lambda folder: change_config(folder, use_rotary_embedding=True),
        WeightsMismatch,
        "does not know use_rotary_embedding",
    ),
    "shards beside it": (
        lambda folder: (folder / f"{WEIGHTS}.index.json").write_text("{}"),
        WeightsMismatch,
        "index.json",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    networks: dict[str, Any],
    tmp_path: Path,
    library_log: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    spoil, error, words = DAMAGES[damage]
    weights = save(networks["kl"], tmp_path / "weights")
    spoil(weights)
    library_log.clear()
    with pytest.raises(VtbenchError) as caught:
        load(tmp_path, "kl", weights, dtype="bf16")
    assert type(caught.value) is error
    assert words in str(caught.value) and str(caught.value).startswith("subject: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not library_log.records, "the library said more than our one line"
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.slow
def test_a_pickle_is_opened_safely(networks: dict[str, Any], tmp_path: Path) -> None:
    """The asymmetric decoders are published as diffusion_pytorch_model.bin alone."""
    weights = save(networks["kl"], tmp_path / "weights")
    images = pictures(1, 32, 32)
    tokenizer = load(tmp_path, "kl", weights)
    expected = tokenizer.decode(tokenizer.encode(images))
    tensors = load_file(weights / WEIGHTS)
    (weights / WEIGHTS).unlink()
    torch.save(tensors, weights / PICKLE)
    tokenizer = load(tmp_path, "kl", weights)
    assert torch.equal(tokenizer.decode(tokenizer.encode(images)), expected)
    torch.save(tensors | {"callback": print}, weights / PICKLE)
    with pytest.raises(WeightsMismatch, match="which a safe load refuses"):
        load(tmp_path, "kl", weights)


def options(case: str, **more: Any) -> dict[str, Any]:
    class_name, config, _, _ = CASES[case]
    return {"class_name": class_name, "config": json.loads(json.dumps(config)), **more}


@pytest.mark.slow
def test_one_file_is_enough_where_the_entry_has_the_architecture(
    networks: dict[str, Any], tmp_path: Path
) -> None:
    weights = save(networks["kl"], tmp_path / "weights")
    images = pictures(1, 32, 32)
    folder = load(tmp_path, "kl", weights, options=options("kl"))
    file = load(tmp_path, "kl", weights / WEIGHTS, options=options("kl"))
    expected = folder.decode(folder.encode(images))
    assert torch.equal(file.decode(file.encode(images)), expected)
    with pytest.raises(RegistryError, match="the architecture of AutoencoderKL is not known"):
        load(tmp_path, "kl", weights / WEIGHTS)


@pytest.mark.slow
def test_the_entrys_architecture_must_be_that_of_the_weights(
    networks: dict[str, Any], tmp_path: Path
) -> None:
    weights = save(networks["kl"], tmp_path / "weights")
    other = options("kl")
    other["config"]["norm_num_groups"] = 2  # no tensor of another shape, another picture
    with pytest.raises(
        WeightsMismatch, match=r"norm_num_groups: the entry says 2, config\.json has 4"
    ):
        load(tmp_path, "kl", weights, options=other)
    other["config"] = {"groups": 2}
    with pytest.raises(
        RegistryError, match=r"options\.config\.groups: AutoencoderKL takes no such"
    ):
        load(tmp_path, "kl", weights, options=other)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["kl", "flux2", "hunyuan"])
def test_a_sampled_posterior_is_seeded_and_declared(
    networks: dict[str, Any], tmp_path: Path, case: str
) -> None:
    weights = save(networks[case], tmp_path / "weights")
    images = pictures(2, 32, 32)
    sample = options(case, posterior="sample")

    def encode(seed: int, n: int = 2) -> torch.Tensor:
        tokenizer = load(tmp_path, case, weights, seed=seed, options=sample, stochastic=True)
        latents = tokenizer.encode(images[:n]).latents
        assert latents is not None
        return latents

    before = torch.get_rng_state()
    first = encode(1)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    assert torch.equal(first, encode(1)) and (first - encode(2)).abs().max() > 0.1
    assert (first[:1] - encode(1, 1)).abs().max() < 1e-5  # convolutions round by the batch
    if case == "kl":
        posterior = networks[case].encode(images * 2 - 1).latent_dist
        noise = torch.randn(first.shape[1:], generator=torch.Generator().manual_seed(1))
        assert (first - (posterior.mean + posterior.std * noise)).abs().max() < 1e-6
    with pytest.raises(RegistryError, match="stochastic is False, but"):
        load(tmp_path, case, weights, options=sample)


REFUSED_ENTRIES: dict[str, tuple[str, dict[str, Any], type[VtbenchError], str]] = {
    "latent channels": (
        "kl",
        {"latent_channels": 16},
        WeightsMismatch,
        "latent channels: the entry says 16, the weights have 4",
    ),
    "codebook size": (
        "vq",
        {"codebook_size": 8192},
        WeightsMismatch,
        "codebook size: the entry says 8192, the weights have 48",
    ),
    "downsample": (
        "dc",
        {"downsample": 2},
        WeightsMismatch,
        "downsample factor: the entry says 2, the weights have 4",
    ),
    "no downsample": ("kl", {"downsample": None}, RegistryError, "downsample is missing"),
    "size": ("kl", {"size": {"multiple": 4}}, RegistryError, "4 is no multiple of the downsample"),
    "fixed size": (
        "kl",
        {"size": {"fixed": [256, 260], "policy": "resize"}},
        RegistryError,
        "260 is no multiple",
    ),
    "input range": ("kl", {"input_range": [0, 1]}, RegistryError, "input_range is (0.0, 1.0)"),
    "stochastic": ("kl", {"stochastic": True}, RegistryError, "stochastic is True"),
    "not stochastic": (
        "consistency",
        {"stochastic": False},
        RegistryError,
        "stochastic is False",
    ),
    "kind": (
        "kl",
        {"kind": "discrete", "latent_channels": None, "codebook_size": 4},
        RegistryError,
        "kind is discrete, but AutoencoderKL needs continuous",
    ),
    "unknown class": (
        "kl",
        {"options": {"class_name": "AutoencoderRAE"}},
        RegistryError,
        f"'AutoencoderRAE' is none of {', '.join(WIRINGS)}",
    ),
    "class of another type": (
        "kl",
        {"options": {"class_name": ["AutoencoderKL"]}},
        RegistryError,
        "is none of",
    ),
    "no class": ("kl", {"options": {}}, RegistryError, "class_name"),
    "unknown option": (
        "kl",
        {"options": {"class_name": "AutoencoderKL", "tiling": True}},
        RegistryError,
        "options.tiling",
    ),
    "steps": (
        "kl",
        {"options": {"class_name": "AutoencoderKL", "steps": 2}},
        RegistryError,
        "options.steps is 2",
    ),
    "other steps": (
        "consistency",
        {"options": {"class_name": "ConsistencyDecoderVAE", "steps": 4}},
        RegistryError,
        "options.steps is 4",
    ),
    "no weights": ("kl", {"weights": None}, RegistryError, "weights"),
    "posterior of a deterministic encoder": (
        "dc",
        {"options": {"class_name": "AutoencoderDC", "posterior": "sample"}, "stochastic": True},
        RegistryError,
        "options.posterior is 'sample'",
    ),
    "unknown posterior": (
        "kl",
        {"options": {"class_name": "AutoencoderKL", "posterior": "mean"}},
        RegistryError,
        "options.posterior is 'mean'",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED_ENTRIES)
def test_entries_that_contradict_class_or_weights_are_refused(
    networks: dict[str, Any], tmp_path: Path, what: str
) -> None:
    case, changes, error, words = REFUSED_ENTRIES[what]
    weights = save(networks[case], tmp_path / "weights")
    with pytest.raises(VtbenchError) as caught:
        load(tmp_path, case, weights, **changes)
    assert type(caught.value) is error
    assert words in str(caught.value) and "\n" not in str(caught.value)


SHIPPED = {
    name: entry
    for name, entry in load_registry().items()
    if entry.adapter == "vtbench.tokenizers.diffusers_vae:DiffusersVae"
}
PUBLISHED = [name for name, entry in SHIPPED.items() if entry.family != "reference"]
"""Whose weights are on the hub; a reference's come with the package."""


def test_every_class_has_a_shipped_entry() -> None:
    assert {entry.options["class_name"] for entry in SHIPPED.values()} == set(WIRINGS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_entry_fits_its_class_and_says_how_to_fetch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = SHIPPED[name]
    check_entry(
        entry.spec,
        WIRINGS,
        entry.options["class_name"],
        posterior=entry.options.get("posterior", "mode"),
        steps=entry.options.get("steps"),
    )
    assert entry.size.multiple == entry.downsample
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("VTBENCH_WEIGHTS", raising=False)
    with pytest.raises(WeightsMissing) as caught:
        find_weights(entry)
    assert f"run `vtbench fetch {name}`" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert ("gated" in str(caught.value)) == (name in ("sd3-vae", "sd3.5-vae"))


@pytest.mark.slow
def test_the_version_of_the_library_is_recorded() -> None:
    import diffusers

    assert DiffusersVae.libraries({}) == {"diffusers": diffusers.__version__}


@pytest.mark.slow
def test_importing_the_adapter_does_not_import_the_library() -> None:
    program = (
        "import sys, vtbench.tokenizers.diffusers_vae; raise SystemExit('diffusers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
