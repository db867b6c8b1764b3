"""The convolutional families as tokenizers: entries, files, sizes, rates; their numbers are in
tests/parity."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from skimage import data as pictures

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.commands.list import weights_state
from vtbench.registry.entries import Entry, load_entry, load_registry
from vtbench.runs.request import sample_posterior
from vtbench.tokenizers import build_tokenizer
from vtbench.tokenizers.base import Code
from vtbench.tokenizers.contract import CLAUSES, check_contract
from vtbench.tokenizers.nn import conv, quantize

ADAPTERS = ("vqgan:", "ldm_kl:", "lookup_free:", "multiscale:", "cosmos:")
ENTRIES = {
    name: entry
    for name, entry in load_registry().items()
    if entry.adapter.removeprefix("vtbench.tokenizers.").startswith(ADAPTERS)
}


def shrink(entry: Entry, folder: Path, **changes) -> Entry:
    """Return the entry with a network of 32 channels on the first level, 64 on the others."""
    fields = yaml.safe_load(entry.path.read_text(encoding="utf-8"))
    config = fields["options"]["config"]
    config["channels"] = 32
    levels = len(config.get("multipliers", (2, 4, 4)))  # without any: Cosmos' own
    config["multipliers"] = [1] + [2] * (levels - 1)
    folder.mkdir(exist_ok=True)
    path = folder / f"{entry.name}.yaml"
    path.write_text(json.dumps(fields | changes), encoding="utf-8")
    return load_entry(path)


def test_the_families_are_there():
    assert len(ENTRIES) >= 40
    assert len({entry.family for entry in ENTRIES.values()}) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llamagen-ds16", "va-vae-f16d32", "infinity-d64"])
def test_the_contract_holds(name, tmp_path):
    changes = {} if name != "infinity-d64" else {"size": {"fixed": [256, 256], "policy": "resize"}}
    tokenizer = build_tokenizer(shrink(ENTRIES[name], tmp_path, **changes), random_weights=True)
    passed = check_contract(
        tokenizer, [pictures.rocket(), pictures.coffee()], skip=["levels", "range"]
    )
    assert len(passed) == len(CLAUSES) - 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, tokens", [("infinity-d64", 521), ("infinity-d16", 521), ("var-256", 680)]
)
def test_multi_scale_codes_count_tokens_and_bits(name, tokens, tmp_path):
    tokenizer = build_tokenizer(shrink(ENTRIES[name], tmp_path), random_weights=True)
    code = tokenizer.encode(torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)))
    assert code.tokens == (tokens, tokens)
    assert code.bits[0] == tokens * math.log2(tokenizer.spec.codebook_size)
    assert tokenizer.decode(code).shape == (2, 3, 256, 256)
    alone = tokenizer.encode(
        torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))[:1]
    )
    assert all(torch.equal(a, b[:1]) for a, b in zip(alone.indices, code.indices, strict=True))


def test_a_64_bit_code_is_carried_as_bits():
    bits = torch.ones(2, 64, 3, 3, dtype=torch.int64)
    code = Code.discrete((bits, bits[:, :, :1, :1]), (2,) * 64)
    assert code.tokens == (10, 10) and code.bits == (640.0, 640.0)
    assert Code.discrete(bits[:, 0], 2**62).tokens == (9, 9)


def test_bits_pack_as_written_by_hand():
    signs = torch.tensor([1.0, -1.0, 0.0, 3.0, -0.5]).reshape(1, 5, 1, 1)
    assert quantize.BinaryCode(5).encode(signs).item() == 0b01001  # channel 0 is the lowest bit
    numbers = torch.arange(1 << 10).reshape(1, 32, 32)
    assert torch.equal(quantize.pack_bits(quantize.unpack_bits(numbers, 10)), numbers)
    highest_first = quantize.unpack_bits(numbers, 10).flip(1)
    assert not torch.equal(quantize.pack_bits(highest_first), numbers)
    big = torch.tensor([2**62 - 1, 2**61 + 5]).reshape(1, 1, 2)
    assert torch.equal(quantize.pack_bits(quantize.unpack_bits(big, 62)), big)
    sphere = quantize.BinaryCode(5, sphere=True).decode(torch.tensor([[[9]]]))
    assert sphere.norm() == pytest.approx(1.0) and (sphere[0, :, 0, 0] > 0).tolist() == [
        1,
        0,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize("lookup", ["nearest", "cosine", "dot"])
def test_codebooks_find_what_brute_force_finds(lookup, monkeypatch):
    monkeypatch.setattr(
        quantize, "CHUNK_VALUES", 64 * 7
    )  # 7 vectors at a time, the last chunk short
    torch.manual_seed(0)
    codebook = quantize.Codebook(64, 5, lookup)
    vectors = torch.randn(2, 5, 4, 6)
    rows, table = vectors.permute(0, 2, 3, 1).double(), codebook.entries.double()
    unit = torch.nn.functional.normalize
    scores = {
        "nearest": -torch.cdist(rows, table),
        "cosine": unit(rows, dim=-1) @ unit(table, dim=-1).T,
        "dot": rows @ table.T,
    }
    found = codebook.encode(vectors)
    for other, score in scores.items():
        assert torch.equal(found, score.argmax(dim=-1)) == (other == lookup)
    decoded = codebook.decode(found).permute(0, 2, 3, 1)
    expected = unit(table, dim=-1) if lookup == "cosine" else table
    assert torch.allclose(decoded.double(), expected[found], atol=1e-6)


def test_wavelets_are_those_written_by_hand():
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    bands = conv.split_bands(x)
    a, b = x[0, 1, 2, 4], x[0, 1, 2, 5]  # a block of 2×2, row by row
    c, d = x[0, 1, 3, 4], x[0, 1, 3, 5]
    expected = torch.stack([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]) / 4
    assert torch.allclose(bands[0, [1, 4, 7, 10], 1, 2], expected, atol=1e-6)
    assert torch.allclose(conv.join_bands(bands), x, atol=1e-6)


def test_scalar_codes_number_their_levels():
    code = quantize.ScalarCode((8, 5))
    numbers = torch.arange(40).reshape(1, 5, 8)
    values = code.decode(numbers)
    assert values[0, 0, 0].tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]
    assert values[0, 1, :, 3].tolist() == [-1, -0.5, 0, 0.5, 1]
    # Far outside, the last level; an even number of levels has none at +1.
    far = torch.tensor([[9.0, 9.0], [-9.0, 9.0]])[..., None, None]
    assert code.encode(far).flatten().tolist() == [7 + 8 * 4, 8 * 4]
    # A codeword comes back from where tanh takes it.
    half = torch.tensor([7 * 1.001 / 2, 4 * 1.001 / 2]).reshape(2, 1, 1)
    offset = torch.tensor([0.5, 0.0]).reshape(2, 1, 1)
    steps = values * torch.tensor([4.0, 2.0]).reshape(2, 1, 1)
    before = ((steps + offset) / half).atanh() - (offset / half).atanh()
    assert torch.equal(code.encode(before), numbers)


@pytest.mark.slow
def test_bfloat16_is_close(tmp_path):
    entry = shrink(ENTRIES["va-vae-f16d32"], tmp_path)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    full, half = (build_tokenizer(entry, random_weights=True, dtype=d) for d in ("fp32", "bf16"))
    a, b = full.decode(full.encode(images)), half.decode(half.encode(images))
    assert b.dtype == torch.float32
    # 8 significant bits (0.4 %) through some forty layers, each of which may double the error.
    assert 0 < (a - b).abs().mean() < 0.2 * a.std()


@pytest.mark.slow
def test_the_declared_file_of_a_folder_is_read(tmp_path):
    entry = shrink(ENTRIES["infinity-d16"], tmp_path)
    made = build_tokenizer(entry, random_weights=True)
    names = made.name_tensors(made.model, made.parse_config(entry.spec, entry.options["config"]))
    state = made.model.state_dict()
    weights = {there: state[here] for there, here in names.items()}
    folder = tmp_path / "snapshot"
    folder.mkdir()
    torch.save({"vae": weights}, folder / "infinity_vae_d16.pth")
    (folder / "infinity_vae_d24.pth").write_bytes(b"another tokenizer's")
    loaded = build_tokenizer(entry, weights=folder)
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.decode(loaded.encode(images)), made.decode(made.encode(images)))
    (folder / "infinity_vae_d16.pth").unlink()
    with pytest.raises(WeightsMissing, match=r"infinity_vae_d16\.pth"):
        build_tokenizer(entry, weights=folder)


@pytest.mark.slow
def test_a_sampled_posterior_is_the_official_one(tmp_path):
    """latent-diffusion's DiagonalGaussianDistribution: mean + exp(log variance / 2) · noise, of a log
    variance within [-30, 20]."""
    entry = shrink(ENTRIES["ldm-kl-f8"], tmp_path)
    mode = build_tokenizer(entry, random_weights=True)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        moments = mode.model.before(mode.model.encoder(images * 2 - 1))
        mean, log_variance = moments.chunk(2, dim=1)
    assert torch.equal(mode.encode(images).latents, mean)
    tokenizer = build_tokenizer(sample_posterior(entry), random_weights=True, seed=0)
    drawn = tokenizer.encode(images).latents
    noise = torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(0))
    expected = mean + torch.exp(0.5 * log_variance) * noise
    assert (drawn - expected).abs().max() < 1e-6  # one rounding
    assert (drawn - mean).abs().max() > 0.1
    alone = tokenizer.encode(images[1:]).latents
    assert (alone - drawn[1:]).abs().max() < 1e-5, "each image has a generator of its own"
    other = build_tokenizer(sample_posterior(entry), random_weights=True, seed=0)
    other.seed = 1
    assert (other.encode(images).latents - drawn).abs().max() > 0.1
    with torch.inference_mode():  # a variance beyond all floats is cut to the official bound
        tokenizer.model.before.bias[4:] = 1000.0
        assert torch.isfinite(tokenizer.encode(images).latents).all()
    vq = ENTRIES["ldm-vq-f8"]
    options = {**vq.options, "posterior": "sample"}
    vq = vq.model_copy(update={"options": options, "stochastic": True})
    with pytest.raises(RegistryError, match=r"options\.posterior is 'sample'"):
        build_tokenizer(vq, random_weights=True, device="meta")


class Attributes(torch.nn.Module):
    """A module with parameters of given names, and a forward because an archive needs a program."""

    def __init__(self, state):
        super().__init__()
        below = {}
        for path, tensor in state.items():
            name, _, rest = path.partition(".")
            if rest:
                below.setdefault(name, {})[rest] = tensor
            else:
                self.register_buffer(name, tensor)
        for name, tensors in below.items():
            self.add_module(name, Attributes(tensors))

    def forward(self, x):
        return x


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit")  # deprecated; the published files stay
def test_cosmos_reads_its_torchscript(tmp_path):
    """Under the official names, with the wavelets and the codebook's constants that the official
    trace has as buffers, in the published bfloat16. That a trace of the official code is read the
    same way was tried outside the repository."""
    entry = shrink(ENTRIES["cosmos-di16x16"], tmp_path)
    made = build_tokenizer(entry, random_weights=True)
    state = {key: tensor.to(torch.bfloat16) for key, tensor in made.model.state_dict().items()}
    made.model.load_state_dict(state)
    plan = made.parse_config(entry.spec, entry.options["config"])
    names = made.name_tensors(made.model, plan)
    weights = {there: state[here] for there, here in names.items()}
    others = {"encoder.patcher._arange": torch.arange(2), "quantizer._levels": torch.ones(6)}
    folder = tmp_path / "snapshot"
    folder.mkdir()
    torch.jit.save(torch.jit.script(Attributes(weights | others)), folder / "autoencoder.jit")
    loaded = build_tokenizer(entry, weights=folder)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    code = loaded.encode(images)
    assert torch.equal(code.indices, made.encode(images).indices)
    assert torch.equal(loaded.decode(code), made.decode(code))
    removed = next(key for key in weights if key.startswith("decoder."))
    del weights[removed]
    torch.jit.save(torch.jit.script(Attributes(weights)), folder / "autoencoder.jit")
    with pytest.raises(WeightsMismatch, match=f"missing {names[removed]}"):
        build_tokenizer(entry, weights=folder)


def test_a_file_on_a_page_is_asked_for_by_its_address():
    entry = ENTRIES["ldm-kl-f8"]
    url = "https://ommer-lab.com/files/latent-diffusion/kl-f8.zip"
    assert weights_state(entry) == f"missing: {url} (unpinned)"
    with pytest.raises(WeightsMissing, match=rf"model\.ckpt is published at {url}"):
        build_tokenizer(entry)


def test_a_page_needs_an_address(tmp_path):
    fields = yaml.safe_load(ENTRIES["ldm-kl-f8"].path.read_text(encoding="utf-8"))
    fields["weights"]["url"] = "file:///etc/passwd"
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    with pytest.raises(RegistryError, match=r"weights\.url: is no http or https address"):
        load_entry(path)
