"""Video autoencoders on single frames against the library called by hand, on tiny networks."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vtbench.base.errors import RegistryError, VtbenchError, WeightsMismatch
from vtbench.base.records import SizePolicy, Spec
from vtbench.tokenizers.diffusers_files import CONFIG, WEIGHTS
from vtbench.tokenizers.diffusers_video import WIRINGS, DiffusersVideoVae

GOLDENS = Path(__file__).parents[1] / "parity" / "library"

FOUR = {"z_dim": 4, "num_res_blocks": 1, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}

# case → (class, its config, downsample factor, latent channels)
CASES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "wan-2.1": ("AutoencoderKLWan", {**FOUR, "base_dim": 8, "dim_mult": [1, 1, 2, 2]}, 8, 4),
    "wan-2.2": (
        "AutoencoderKLWan",
        {
            **FOUR,
            "base_dim": 8,
            "decoder_base_dim": 12,
            "dim_mult": [1, 1, 2, 2],
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
        },
        16,
        4,
    ),
    "qwen": ("AutoencoderKLQwenImage", {**FOUR, "base_dim": 8, "dim_mult": [1, 1, 2, 2]}, 8, 4),
    "qwen-2.1": (
        "AutoencoderKLQwenImage21",
        {**FOUR, "base_dim": 8, "decoder_base_dim": 8, "dim_mult": [1, 1, 1, 2, 2]},
        16,
        4,
    ),
    "cosmos": (
        "AutoencoderKLCosmos",
        {
            "latent_channels": 4,
            "encoder_block_out_channels": [8, 8, 16, 16],
            "decode_block_out_channels": [8, 16, 16, 16],
            "attention_resolutions": [8],
            "resolution": 64,
            "num_layers": 1,
        },
        8,
        4,
    ),
    # No official code was at hand for it.
    "kvae": (
        "AutoencoderKLKVAEVideo",
        {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "z_channels": 4},
        8,
        4,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Random networks of the library, and their folders as the library writes them."""
    import diffusers

    built = {}
    for case, (class_name, config, _, _) in CASES.items():
        torch.manual_seed(0)
        model = getattr(diffusers, class_name)(**config).eval()
        folder = tmp_path_factory.mktemp(case)
        model.save_pretrained(folder)
        built[case] = (model, folder)
    return built


def load(case: str, weights: Path, **changes: Any) -> DiffusersVideoVae:
    class_name, config, factor, channels = CASES[case]
    spec = Spec(
        name=case,
        family="test",
        kind="continuous",
        quantizer="kl",
        downsample=factor,
        latent_channels=changes.pop("latent_channels", channels),
        input_range=(-1.0, 1.0),
        size=SizePolicy(factor),
    )
    given = {"class_name": class_name, "config": config, "weights": weights} | changes
    return DiffusersVideoVae(spec, **given)


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(7))


@torch.inference_mode()
def by_hand(model: Any, case: str, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    model = copy.deepcopy(model).to(dtype)
    height, width = images.shape[-2:]
    factor = CASES[case][2]
    pad = ((0, 0), (0, 0), (0, -height % factor), (0, -width % factor))
    padded = torch.from_numpy(np.pad(images.numpy(), pad, mode="reflect")) * 2 - 1
    if case == "qwen-2.1":
        padded = torch.nn.functional.pad(padded, (0, 0, 0, 0, 0, 1), value=1.0)
    clip = padded.to(dtype).reshape(1, -1, 1, *padded.shape[-2:])
    with pytest.MonkeyPatch.context() as patch:
        # torch has no 3-D average pooling in bfloat16 on the CPU, which Cosmos downsamples with.
        pool = torch.nn.functional.avg_pool3d
        patch.setattr(
            torch.nn.functional, "avg_pool3d", lambda x, **how: pool(x.float(), **how).to(x.dtype)
        )
        frames = model.decode(model.encode(clip).latent_dist.mode()).sample
    assert frames.shape[2] == 1
    return ((frames[:, :3, 0].float() + 1) / 2)[..., :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (45, 77)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_library_called_by_hand(
    saved: dict[str, tuple[Any, Path]], case: str, size: tuple[int, int], dtype: torch.dtype
) -> None:
    model, folder = saved[case]
    images = picture(*size)
    tokenizer = load(case, folder, dtype=dtype)
    code = tokenizer.encode(images)
    factor, channels = CASES[case][2:]
    assert code.latents is not None
    rows, columns = (-(-side // factor) for side in size)
    assert code.latents.shape == (1, channels, rows, columns)
    assert code.bits == (16.0 * channels * rows * columns,)
    got = tokenizer.decode(code)
    expected = by_hand(model, case, images, dtype)
    # The same operations on the same machine: any difference beyond fp32 rounding is ours.
    assert (got - expected).abs().max() <= 1e-6
    assert got.std() > 1e-3, "a constant picture would prove nothing"
    assert {p.dtype for p in tokenizer.model.parameters()} == {dtype}


@pytest.mark.slow
def test_a_transparent_picture_would_be_another_one(saved: dict[str, tuple[Any, Path]]) -> None:
    """The mutant of the opaque fourth channel: zeros, half transparent in [-1, 1]."""
    model, folder = saved["qwen-2.1"]
    images = picture(32, 32)
    latents = load("qwen-2.1", folder).encode(images).latents
    clip = torch.cat([images * 2 - 1, torch.zeros(1, 1, 32, 32)], dim=1)[:, :, None]
    wrong = model.encode(clip).latent_dist.mode()[:, :, 0]
    assert latents is not None and (latents - wrong).abs().max() > 1e-3


def test_a_sampled_posterior_is_seeded(saved: dict[str, tuple[Any, Path]]) -> None:
    _, folder = saved["wan-2.1"]
    with pytest.raises(RegistryError, match="stochastic is False"):
        load("wan-2.1", folder, posterior="sample")
    with pytest.raises(RegistryError, match=r"options\.posterior"):
        load("cosmos", saved["cosmos"][1], posterior="sample")


def edit(folder: Path, copy_to: Path, what: str) -> Path:
    copy_to.mkdir()
    (copy_to / CONFIG).write_text((folder / CONFIG).read_text())
    tensors = load_file(folder / WEIGHTS)
    first = sorted(tensors)[0]
    if what == "removed":
        del tensors[first]
    elif what == "added":
        tensors["extra.weight"] = torch.zeros(1)
    else:
        tensors[first] = torch.zeros(*tensors[first].shape, 2)
    save_file(tensors, copy_to / WEIGHTS)
    return copy_to


@pytest.mark.parametrize("what", ["removed", "added", "misshaped"])
@pytest.mark.parametrize("case", CASES)
def test_files_that_do_not_fit_are_named(
    saved: dict[str, tuple[Any, Path]], tmp_path: Path, case: str, what: str
) -> None:
    folder = saved[case][1]
    first = sorted(load_file(folder / WEIGHTS))[0]
    words = {"removed": "missing ", "added": "unexpected extra.weight", "misshaped": "misshaped "}
    with pytest.raises(WeightsMismatch) as caught:
        load(case, edit(folder, tmp_path / "edited", what))
    named = words[what] + ("" if what == "added" else first)
    assert str(caught.value).startswith(f"{case}: ") and named in str(caught.value)


@pytest.mark.parametrize(
    ("case", "changes", "words"),
    [
        (
            "wan-2.1",
            {"latent_channels": 16},
            "latent channels: the entry says 16, the weights have 4",
        ),
        ("wan-2.2", {"config": {"patch_size": None}}, r"patch_size: the entry says None"),
        ("qwen", {"class_name": "AutoencoderKL"}, "'AutoencoderKL' is none of"),
    ],
)
def test_entries_that_contradict_the_weights_are_refused(
    saved: dict[str, tuple[Any, Path]], case: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(VtbenchError, match=words):
        load(case, saved[case][1], **changes)


def test_a_key_that_the_class_never_reads_is_let_through(
    saved: dict[str, tuple[Any, Path]], tmp_path: Path
) -> None:
    """Wan 2.2's config.json has clip_output; any other unknown key is a newer library's."""
    folder = saved["wan-2.2"][1]
    for key, fine in (("clip_output", True), ("clip_input", False)):
        other = tmp_path / key
        other.mkdir()
        (other / WEIGHTS).symlink_to(folder / WEIGHTS)
        text = (folder / CONFIG).read_text()
        (other / CONFIG).write_text(text.replace("{", f'{{"{key}": false,', 1))
        if fine:
            load("wan-2.2", other)
        else:
            with pytest.raises(WeightsMismatch, match="does not know clip_input"):
                load("wan-2.2", other)


def test_every_class_is_tried() -> None:
    """Here against the library, or in tests/parity against the official code."""
    goldens = [json.loads(path.read_bytes()) for path in GOLDENS.glob("*.json")]
    proven = {golden["ours"].get("class_name") for golden in goldens}
    assert set(WIRINGS) <= proven | {class_name for class_name, *_ in CASES.values()}


@pytest.mark.slow
def test_a_class_that_takes_no_batch_goes_image_by_image() -> None:
    """HunyuanVideo 1.5: the library's attention mask fits one clip."""
    config = {"latent_channels": 8, "block_out_channels": [32, 32, 64, 64, 64]}
    spec = Spec(
        name="subject",
        family="test",
        kind="continuous",
        quantizer="kl",
        downsample=16,
        latent_channels=8,
        input_range=(-1.0, 1.0),
        size=SizePolicy(16),
    )
    given = {"config": {**config, "layers_per_block": 1}, "weights": None}
    tokenizer = DiffusersVideoVae(spec, class_name="AutoencoderKLHunyuanVideo15", **given)
    images = torch.cat([picture(32, 48), 1 - picture(32, 48)])
    code = tokenizer.encode(images)
    assert code.latents is not None and code.latents.shape == (2, 8, 2, 3)
    decoded = tokenizer.decode(code)
    for index in range(2):
        alone = tokenizer.decode(tokenizer.encode(images[index : index + 1]))
        assert torch.equal(decoded[index : index + 1], alone)
    assert (decoded[0] - decoded[1]).abs().max() > 1e-3


def test_a_still_is_decoded_as_one_frame_of_its_own() -> None:
    """SVD's frames lie along the batch: two pictures are not two frames of one clip."""
    config = {
        "block_out_channels": [32, 32, 64, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
    }
    spec = Spec(
        name="subject",
        family="test",
        kind="continuous",
        quantizer="kl",
        downsample=8,
        latent_channels=4,
        input_range=(-1.0, 1.0),
        size=SizePolicy(8),
    )
    tokenizer = DiffusersVideoVae(
        spec, class_name="AutoencoderKLTemporalDecoder", config=config, weights=None
    )
    images = torch.cat([picture(32, 48), 1 - picture(32, 48)])
    together = tokenizer.decode(tokenizer.encode(images))
    alone = tokenizer.decode(tokenizer.encode(images[:1]))
    # A batch rounds differently; a neighbour mixed in as a frame would differ by far more.
    assert (together[:1] - alone).abs().max() <= 1e-5
