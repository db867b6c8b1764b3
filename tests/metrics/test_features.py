"""The transformers behind FD-DINOv2 and CMMD against transformers' own, on small random networks."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photo
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vtbench.base.errors import WeightsMismatch
from vtbench.base.files import sha256_file
from vtbench.metrics.features import VITS, VitFeatures, VitRecipe, cosine_similarity, show
from vtbench.metrics.vit import (
    CLIP_L14_336,
    DINOV2_L14,
    SIGLIP_SO400M_14_384,
    Shape,
    resize_positions,
)

# float32 attention and norms of two implementations, features of order 1.
TOLERANCE = 2e-5

DINOV2 = replace(
    VITS["dinov2-vitl14"], shape=Shape(14, 3, 32, 2, 4, 1e-6, layer_scale=True), side=42
)
CLIP = replace(
    VITS["clip-vitl14-336"], shape=Shape(14, 3, 32, 2, 4, 1e-5, clip=True, projection=24), side=42
)
SIGLIP = replace(
    VITS["siglip-so400m"], shape=Shape(14, 3, 32, 2, 4, 1e-6, siglip=True, hidden=72), side=48
)


def pictures() -> Tensor:
    arrays = [photo(seed, 61, 50) for seed in range(3)]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def randomize(model: torch.nn.Module, seed: int) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape) + (parameter.dim() == 1) * 0.5)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dinov2Model]:
    """Return a checkpoint in the names of DINOv2's own files, and transformers' model with it."""
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=42, patch_size=14
    )
    model = Dinov2Model(config).eval()
    randomize(model, 1)
    theirs = model.state_dict()
    state = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "mask_token": theirs["embeddings.mask_token"],
        "norm.weight": theirs["layernorm.weight"],
        "norm.bias": theirs["layernorm.bias"],
    }
    for part in ("weight", "bias"):
        state[f"patch_embed.proj.{part}"] = theirs[f"embeddings.patch_embeddings.projection.{part}"]
        for layer in range(2):
            ours, prefix = f"blocks.{layer}", f"encoder.layer.{layer}"
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{ours}.{name}.{part}"] = theirs[f"{prefix}.{name}.{part}"]
            # transformers has renamed these between releases.
            named = [
                next(
                    v
                    for k, v in theirs.items()
                    if re.search(rf"^{prefix}\.att.*{name}.*{part}$", k)
                )
                for name in ("q(uery|_proj)", "k(ey|_proj)", "v(alue|_proj)", "(dense|o_proj)")
            ]
            state[f"{ours}.attn.qkv.{part}"] = torch.cat(named[:3])
            state[f"{ours}.attn.proj.{part}"] = named[3]
            for number in (1, 2):
                state[f"{ours}.ls{number}.gamma"] = theirs[f"{prefix}.layer_scale{number}.lambda1"]
    path = tmp_path_factory.mktemp("dinov2") / "dinov2.pth"
    torch.save(state, path)
    return path, model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CLIPModel]:
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        image_size=42, patch_size=14,
    )  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 50, "eos_token_id": 2}  # fmt: skip
    model = CLIPModel(
        CLIPConfig(vision_config=vision.to_dict(), text_config=text, projection_dim=24)
    ).eval()
    randomize(model, 2)
    path = tmp_path_factory.mktemp("clip") / "clip.bin"
    state = {key: value.half() for key, value in model.state_dict().items()}
    # Old checkpoints hold this buffer; it is no parameter.
    state["vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    torch.save(state, path)
    model.load_state_dict({k: v.float() for k, v in state.items() if "position_ids" not in k})
    return path, model


def test_dinov2_is_transformers(dinov2: tuple[Path, Dinov2Model]) -> None:
    path, model = dinov2
    encoder = VitFeatures("dinov2-vitl14", path, device="cpu", recipe=DINOV2)
    with torch.inference_mode():
        theirs = model(show(pictures(), DINOV2)).pooler_output
    ours = encoder(pictures())
    assert ours.shape == (3, 32) and encoder.dim == encoder.width == 32
    assert float(theirs.std(dim=0).mean()) > 100 * TOLERANCE
    assert float((ours - theirs).abs().max()) < TOLERANCE
    assert encoder.identity == {"dinov2.pth": sha256_file(path)}
    alone = torch.cat([encoder(picture[None]) for picture in pictures()])
    assert float((alone - ours).abs().max()) < TOLERANCE
    # The mutant: CLIP's quick GELU and norms in DINOv2's blocks.
    for block in encoder._net.blocks:
        block.mlp.clip = True
    assert float((encoder(pictures()) - theirs).abs().max()) > 100 * TOLERANCE


def test_clip_is_transformers(clip: tuple[Path, CLIPModel]) -> None:
    path, model = clip
    encoder = VitFeatures("clip-vitl14-336", path, device="cpu", recipe=CLIP)
    with torch.inference_mode():
        pooled = model.vision_model(show(pictures(), CLIP)).pooler_output
        theirs = model.visual_projection(pooled)
    theirs = theirs / theirs.norm(dim=1, keepdim=True)
    ours = encoder(pictures())
    assert ours.shape == (3, 24)
    assert float((ours - theirs).abs().max()) < TOLERANCE
    assert torch.allclose(ours.norm(dim=1), torch.ones(3))
    # The mutant: the whole picture squashed, not its middle square.
    squashed = VitFeatures("x", path, device="cpu", recipe=replace(CLIP, crop=False))
    assert float((squashed(pictures()) - ours).abs().max()) > 100 * TOLERANCE


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SiglipModel]:
    """Return a checkpoint in the names of the published file, and transformers' model with it."""
    vision = {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": 48, "patch_size": 14}  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 50, "projection_size": 32}  # fmt: skip
    model = SiglipModel(SiglipConfig(vision_config=vision, text_config=text)).eval()
    randomize(model, 3)
    path = tmp_path_factory.mktemp("siglip") / "model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path, model


def test_siglip_is_transformers(siglip: tuple[Path, SiglipModel]) -> None:
    path, model = siglip
    keys = model.state_dict().keys()
    assert {"vision_model.head.probe", "vision_model.post_layernorm.bias", "logit_bias"} <= keys
    encoder = VitFeatures("siglip-so400m", path, device="cpu", recipe=SIGLIP)
    with torch.inference_mode():
        theirs = model.vision_model(show(pictures(), SIGLIP)).pooler_output
    ours = encoder(pictures())
    assert ours.shape == (3, 32)
    assert float(theirs.std(dim=0).mean()) > 100 * TOLERANCE
    assert float((ours - theirs).abs().max()) < TOLERANCE
    # The mutant: the exact GELU, which is not what SigLIP was trained with.
    for block in encoder._net.blocks:
        block.mlp.approximate = "none"
    assert float((encoder(pictures()) - theirs).abs().max()) > TOLERANCE


def test_the_input_is_what_the_evaluators_show() -> None:
    picture = Image.fromarray(photo(0, 61, 50))
    images = pictures()[:1]
    mean, std = np.array(CLIP.mean), np.array(CLIP.std)
    square = picture.crop((0, 5, 50, 55)).resize((42, 42), Image.Resampling.BICUBIC)
    by_hand = (np.asarray(square) / 255 - mean) / std
    assert np.allclose(show(images, CLIP)[0].permute(1, 2, 0).numpy(), by_hand, atol=1e-6)
    whole = picture.resize((42, 42), Image.Resampling.BICUBIC)
    by_hand = (np.asarray(whole) / 255 - np.array(DINOV2.mean)) / np.array(DINOV2.std)
    assert np.allclose(show(images, DINOV2)[0].permute(1, 2, 0).numpy(), by_hand, atol=1e-6)


def test_positions_keep_dinov2s_tenth() -> None:
    table = torch.randn(1, 1 + 37 * 37, 8, generator=torch.Generator().manual_seed(0))
    resized = resize_positions(table, 16)
    assert resized.shape == (1, 1 + 16 * 16, 8)
    assert torch.equal(resized[:, :1], table[:, :1])
    patches = table[:, 1:].reshape(1, 37, 37, 8).permute(0, 3, 1, 2)
    # The mutant: resized to the size itself, as transformers does.
    plain = torch.nn.functional.interpolate(patches, size=(16, 16), mode="bicubic")
    difference = (resized[:, 1:] - plain.permute(0, 2, 3, 1).reshape(1, 256, 8)).abs().max()
    assert float(difference) > 0.01
    # By hand: output 0 looks at (0 + 0.5)·37/16.1 − 0.5, Keys' cubic with a = −0.75.
    at = 0.5 * 37 / 16.1 - 0.5
    taps = [cubic(at - i) for i in range(-1, 3)]
    rows = [max(i, 0) for i in range(-1, 3)]
    corner = sum(
        u * v * patches[0, :, i, j]
        for u, i in zip(taps, rows, strict=True)
        for v, j in zip(taps, rows, strict=True)
    )
    assert torch.allclose(resized[0, 1], corner, atol=1e-5)
    assert resize_positions(table, 37) is table


def cubic(x: float, a: float = -0.75) -> float:
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize("recipe", [DINOV2, CLIP], ids=["dinov2", "clip"])
def test_another_network_is_refused(
    recipe: VitRecipe,
    dinov2: tuple[Path, Dinov2Model],
    clip: tuple[Path, CLIPModel],
    tmp_path: Path,
) -> None:
    right = dinov2[0] if recipe is DINOV2 else clip[0]
    other = clip[0] if recipe is DINOV2 else dinov2[0]
    with pytest.raises(WeightsMismatch, match="another network"):
        VitFeatures("x", other, device="cpu", recipe=recipe)
    state = torch.load(right, weights_only=True)
    for key in ("norm.bias", "vision_model.encoder.layers.1.self_attn.k_proj.bias"):
        if key in state:
            torch.save({k: v for k, v in state.items() if k != key}, tmp_path / "x.pth")
            with pytest.raises(WeightsMismatch, match="another network"):
                VitFeatures("x", tmp_path / "x.pth", device="cpu", recipe=recipe)
    with pytest.raises(WeightsMismatch, match="does not start with 00000000"):
        VitFeatures("x", right, device="cpu", recipe=recipe, sha256="00000000")


@pytest.mark.slow
def test_the_published_shapes_are_the_published_networks() -> None:
    def parameters(shape: Shape) -> int:
        from vtbench.metrics.vit import VisionTransformer

        with torch.device("meta"):
            return sum(p.numel() for p in VisionTransformer(shape).parameters())

    assert parameters(DINOV2_L14) == 304_368_640 - 1024  # of dinov2_vitl14; without its mask token
    official = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=336, patch_size=14, projection_dim=768,
    )  # fmt: skip
    with torch.device("meta"):
        theirs = CLIPVisionModelWithProjection(official)
    assert parameters(CLIP_L14_336) == sum(p.numel() for p in theirs.parameters())
    so400m = SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
        image_size=384, patch_size=14,
    )  # fmt: skip
    with torch.device("meta"):
        vision = SiglipVisionModel(so400m)
    assert parameters(SIGLIP_SO400M_14_384) == sum(p.numel() for p in vision.parameters())


def test_cosine_similarity() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    y = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    value = cosine_similarity(x, y)
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx([1.0, math.sqrt(0.5), 0.0])
