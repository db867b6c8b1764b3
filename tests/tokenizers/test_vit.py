"""The transformer's blocks against torch's and diffusers' own; the families that stand on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
import yaml
from pydantic import ValidationError
from skimage import data as pictures
from torch import nn

from vtbench.registry.entries import Entry, load_entry, load_registry
from vtbench.runs.request import sample_posterior
from vtbench.tokenizers import build_tokenizer, gigatok
from vtbench.tokenizers.contract import CLAUSES, TRAINED_ONLY_CLAUSES, check_contract
from vtbench.tokenizers.nn import vit

PLAN = vit.VitPlan(width=24, depth=1, heads=3)
TOLERANCE = 1e-6
"""Values are of the order of 1 and sums of at most 96 products, in float32."""


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for tensor in module.parameters():
        nn.init.normal_(tensor, std=0.2)
    return module.eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes, same", [({}, True), ({"epsilon": 1e-2}, False), ({"gelu": "tanh"}, False)]
)
def test_a_block_is_torchs_own(changes, same):
    ours = randomise(vit.Block(PLAN.model_copy(update=changes)))
    theirs = nn.TransformerEncoderLayer(
        24, 3, 96, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    names = {
        "self_attn.in_proj_weight": "attention.qkv.weight",
        "self_attn.in_proj_bias": "attention.qkv.bias",
        "self_attn.out_proj.weight": "attention.out.weight",
        "self_attn.out_proj.bias": "attention.out.bias",
        "linear1.weight": "mlp.0.weight",
        "linear1.bias": "mlp.0.bias",
        "linear2.weight": "mlp.2.weight",
        "linear2.bias": "mlp.2.bias",
    }
    state = ours.state_dict()
    theirs.load_state_dict({name: state[names.get(name, name)] for name in theirs.state_dict()})
    x = draw(2, 7, 24)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=TOLERANCE) == same


def test_scales_multiply_the_branches_and_norms_see_each_head():
    plain = randomise(vit.Block(PLAN))
    scaled = vit.Block(PLAN.model_copy(update={"scale": 0.5, "qk_norm": True}))
    scaled.load_state_dict(plain.state_dict(), strict=False)
    x = draw(2, 7, 24)
    with torch.no_grad():
        q, k, v = (
            part.reshape(2, 7, 3, 8).transpose(1, 2)
            for part in plain.attention.qkv(plain.norm1(x)).chunk(3, dim=-1)
        )
        q, k = (functional.layer_norm(part, (8,)) for part in (q, k))
        weights = (q @ k.mT / 8**0.5).softmax(dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(2, 7, 24)
        middle = x + plain.attention.out(mixed) / 2
        expected = middle + plain.mlp(plain.norm2(middle)) / 2
        assert torch.allclose(scaled(x), expected, atol=TOLERANCE)
        assert not torch.allclose(plain(x), expected, atol=0.1)


def test_attention_to_others_is_that_to_oneself_if_they_are_oneself():
    attention = randomise(vit.Attention(PLAN))
    x, others = draw(2, 7, 24), draw(2, 5, 24)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True).eval()
    state = attention.state_dict()
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    theirs.load_state_dict(
        {n: state[names.get(n, n.replace("out_proj", "out"))] for n in theirs.state_dict()}
    )
    with torch.no_grad():
        assert torch.allclose(attention(x), attention(x, x, x), atol=TOLERANCE)
        expected = theirs(x, others + 1, others, need_weights=False)[0]
        assert torch.allclose(attention(x, others + 1, others), expected, atol=TOLERANCE)
        assert not torch.allclose(attention(x, others, others + 1), expected, atol=1e-3)


def test_positions_are_those_of_mae():
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    expected = get_2d_sincos_pos_embed(16, 5, base_size=5).float()
    assert torch.allclose(vit.compute_positions((5, 5), 16), expected, atol=TOLERANCE)
    wide = vit.compute_positions((3, 5), 16).reshape(3, 5, 16)
    assert torch.equal(wide, vit.compute_positions((5, 5), 16).reshape(5, 5, 16)[:3])
    assert not torch.equal(wide[:, :3], wide[:, :3].transpose(0, 1))


def test_patches_come_back():
    images = draw(2, 3, 8, 12)
    patches = vit.split_patches(images, 4)
    assert patches.shape == (2, 6, 48)
    assert torch.equal(
        patches[1, 4, 16:32], images[1, 1, 4:, 4:8].flatten()
    )  # the channel's pixels
    assert torch.equal(vit.join_patches(patches, (2, 3)), images)
    last = patches.unflatten(2, (3, 16)).mT.flatten(2)
    assert torch.equal(vit.join_patches(last, (2, 3), channels_last=True), images)
    assert not torch.equal(vit.join_patches(last, (2, 3)), images)


@pytest.mark.parametrize("flat", [False, True])
def test_an_embedding_is_a_convolution(flat):
    embedding = randomise(vit.PatchEmbedding(4, 24, flat=flat, bias=not flat))
    images = draw(2, 3, 8, 12)
    weight = embedding.weight.reshape(24, 3, 4, 4)
    expected = functional.conv2d(images, weight, embedding.bias, stride=4).flatten(2).mT
    assert torch.allclose(embedding(images), expected, atol=TOLERANCE)


def test_heads_must_share_the_width():
    with pytest.raises(ValidationError, match="5 heads cannot share a width of 24"):
        vit.VitPlan(width=24, depth=1, heads=5)


FAMILIES = ("titok", "bsq-vit", "gigatok", "mae")
ENTRIES = {name: entry for name, entry in load_registry().items() if entry.family in FAMILIES}


def shrink(entry: Entry, folder: Path) -> Entry:
    """Return the entry with transformers of two narrow blocks and pictures of 64×64."""
    fields = yaml.safe_load(entry.path.read_text(encoding="utf-8"))
    config = fields["options"]["config"]
    for part in {"encoder", "decoder", "vit"} & set(config):
        config[part] = {"width": 64, "depth": 2, "heads": 2}
    for part in {"pixels", "conv"} & set(config):
        config[part] = {"channels": 32, "multipliers": [1, 1, 1, 1, 1], "latent": 32}
    if entry.family == "mae":  # whose code is as wide as its encoder
        fields["latent_channels"] = config["encoder"]["width"]
    path = folder / f"{entry.name}.yaml"
    path.write_text(json.dumps(fields | {"size": {"fixed": [64, 64], "policy": "resize"}}))
    return load_entry(path)


def test_the_entries_are_there():
    assert len(ENTRIES) == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["titok-b64", "titok-bl128-vae", "bsq-vit-36", "gigatok-s-b", "mae-vit-l-pixels"]
)
def test_the_contract_holds(name, tmp_path):
    tokenizer = build_tokenizer(shrink(ENTRIES[name], tmp_path), random_weights=True)
    photos = [pictures.rocket(), pictures.coffee()]
    passed = check_contract(tokenizer, photos, skip=TRAINED_ONLY_CLAUSES)
    assert len(passed) == len(CLAUSES) - len(TRAINED_ONLY_CLAUSES)


@pytest.mark.parametrize(
    "name, tokens, bits",
    [
        ("titok-l32", 32, 12),
        ("titok-sl256-vq", 256, 13),
        ("titok-ll32-vae", 32, 16 * 16),
        ("bsq-vit-18", 64, 18),
        ("bsq-vit-36", 64, 36),
        ("gigatok-xl-xxl", 16, 14),
        ("mae-vit-l-pixels-gan", 17, 64 * 16),
    ],
)
def test_a_code_has_its_tokens_and_bits(name, tokens, bits, tmp_path):
    tokenizer = build_tokenizer(shrink(ENTRIES[name], tmp_path), random_weights=True)
    code = tokenizer.encode(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert code.tokens == (tokens, tokens)
    assert code.bits == pytest.approx((tokens * bits,) * 2)
    if code.latents is None:
        words = torch.cat(code.words(0))
        assert words.min() >= 0 and words.max().item() < 2**bits
        assert len(words.unique()) > tokens // 4  # positions alone make the tokens differ


def test_means_of_levels_halve_left_and_right_first():
    grid = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = gigatok.pool_levels(grid)[0, :, 0].tolist()
    assert found[:4] == [7.5, 7.5, 6.5, 8.5]  # whole, whole again, left, right
    assert found[4:8] == [2.5, 4.5, 10.5, 12.5]  # quarters, row by row
    assert found[8:] == [2, 3, 4, 5, 10, 11, 12, 13]  # eighths, two rows high


def test_a_posterior_can_be_sampled(tmp_path):
    entry = shrink(ENTRIES["titok-bl64-vae"], tmp_path)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mode = build_tokenizer(entry, random_weights=True)
    sample = build_tokenizer(sample_posterior(entry), random_weights=True)
    mean, drawn = mode.encode(images).latents, sample.encode(images).latents
    with torch.inference_mode():
        deviation = (mode.model.compute_moments(images)[1] / 2).exp()
    noise = torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(0))
    assert torch.allclose(drawn, mean + deviation * noise, atol=1e-5)
    assert not torch.allclose(drawn, mean, atol=0.1)


def test_bfloat16_is_close(tmp_path):
    entry = shrink(ENTRIES["titok-bl64-vae"], tmp_path)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    full, half = (build_tokenizer(entry, random_weights=True, dtype=d) for d in ("fp32", "bf16"))
    a, b = full.decode(full.encode(images)), half.decode(half.encode(images))
    # 8 significant bits (0.4 %) through four blocks of two branches each.
    assert 0 < (a - b).abs().mean() < 0.1 * a.std()
