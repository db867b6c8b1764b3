"""Diffusion decoders: what tells a wrong one from the right one, whose noise it is, and how another
number of steps is named. That the right ones give the official figures is in test_goldens.py."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
import yaml
from builders import photo
from parity.golden import adapt, compare, load_golden, load_tokenizer, write_checkpoint

from vtbench.base.errors import RegistryError, WeightsMismatch
from vtbench.base.records import SizePolicy
from vtbench.cli import main
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.runs.request import EntrySelection, Variant, apply_variant
from vtbench.tokenizers import d_ar, flextok, flowmo
from vtbench.tokenizers.contract import TRAINED_ONLY_CLAUSES, check_contract
from vtbench.tokenizers.nn import vit
from vtbench.tokenizers.nn.diffusion import ProjectedGuidance, draw_noise, integrate

NAMES = ("flowmo-lo", "flowmo-hi", "d-ar")
ALL = ["latents", "pixels", "indices"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def load(folder):
    """Return a function that loads a golden's tokenizer, its plan changed where one asks."""

    def load_changed(name, dtype=torch.float32, **plan):
        golden = load_golden(name)
        path = folder / f"{name}.pth"
        if not path.is_file():
            write_checkpoint(golden, path)
        golden["ours"]["options"]["config"] |= plan
        adapter, spec = adapt(golden)
        wrapper = golden["checkpoint"]["wrapper"]
        return adapter(
            spec, **golden["ours"]["options"], weights=path, wrapper=wrapper, dtype=dtype
        )

    return load_changed


MUTANT_PLANS = [
    ("flowmo-lo", {"guidance": 1}),
    ("flowmo-lo", {"guidance": 1.6}),
    ("flowmo-lo", {"steps": 24}),
    ("d-ar", {"deviation": 0.5}),
    ("d-ar", {"shift": 1}),
    ("d-ar", {"steps": 7}),
    ("d-ar", {"group": 16}),
]


@pytest.mark.parametrize(
    "plan, wrong",
    [
        ({"guidance": 7.0}, ["pixels"]),
        ({"guidance": 1}, ["pixels"]),
        ({"steps": 4}, ["pixels"]),
        ({"longest": 1000.0}, ["pixels"]),
        ({"scaling": 0.6}, ALL),
    ],
)
def test_a_wrong_plan_of_flextok_does_not_pass(plan, wrong, load):
    assert compare(load("flextok", **plan), load_golden("flextok")) == wrong


@pytest.mark.parametrize("name, plan", MUTANT_PLANS)
def test_a_wrong_plan_does_not_pass(name, plan, load):
    assert compare(load(name, **plan), load_golden(name)) == ["pixels"]


def attend_by_root(q, k, v, scale=None):
    return functional.scaled_dot_product_attention(q, k, v)


def attend_acausally(q, k, v, attn_mask=None):
    return functional.scaled_dot_product_attention(q, k, v)


class Altered:
    """`torch.nn.functional` with another attention."""

    def __init__(self, attention):
        self.scaled_dot_product_attention = attention

    def __getattr__(self, name):
        return getattr(functional, name)


MUTANTS = {
    "times evenly spaced": ("flowmo-lo", flowmo, "TIME_POWER", 1, ["pixels"]),
    "guided at all times": ("flowmo-lo", flowmo, "GUIDED", (0.0, 1.0), ["pixels"]),
    "scores over the root of the width": (
        "flowmo-lo",
        flowmo,
        "functional",
        Altered(attend_by_root),
        ["latents", "pixels", "indices"],
    ),
    "positions not turned": (
        "flowmo-hi",
        flowmo,
        "rotate",
        lambda x, rotations: x,
        ["latents", "pixels", "indices"],
    ),
    "positions of patches not turned": (
        "d-ar",
        vit,
        "rotate",
        lambda x, rotations, **how: x,
        ["latents", "pixels", "indices"],
    ),
    "tokens see later ones": (
        "d-ar",
        vit,
        "functional",
        Altered(attend_acausally),
        ["latents", "pixels", "indices"],
    ),
    "registers see later ones": ("flextok", vit, "functional", Altered(attend_acausally), ALL),
    "guidance without momentum": (
        "flextok",
        flextok,
        "ProjectedGuidance",
        functools.partial(ProjectedGuidance, momentum=0.0),
        ["pixels"],
    ),
    "guidance of any length": (
        "flextok",
        flextok,
        "ProjectedGuidance",
        functools.partial(ProjectedGuidance, longest=math.inf),
        ["pixels"],
    ),
    "Euler's method": (
        "d-ar",
        d_ar,
        "integrate",
        lambda velocity, start, times, adams: integrate(velocity, start, times),
        ["pixels"],
    ),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_wrong_decoder_does_not_pass(what, load, monkeypatch):
    name, module, attribute, other, wrong = MUTANTS[what]
    tokenizer = load(name)
    monkeypatch.setattr(module, attribute, other)
    assert compare(tokenizer, load_golden(name)) == wrong


def test_six_of_the_steps_are_guided(load):
    images = torch.zeros(1, 3, 32, 32)
    for guidance, expected in ((1.5, 31), (1, 25)):
        tokenizer, calls = load("flowmo-lo", guidance=guidance), []
        tokenizer.model.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        tokenizer.decode(tokenizer.encode(images))
        assert len(calls) == expected


def test_words_are_of_the_bits_that_the_official_quantizer_takes(load):
    tokenizer = load("flowmo-hi")
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    code = tokenizer.encode(images)
    assert code.codebooks == (2**14,) * 4
    assert code.tokens == (16,) and code.bits == (16 * 56,)
    latents = tokenizer.model.compute_latents(images * 2 - 1)[0, :, 0]
    for book in range(4):
        channels = [bit * 4 + book for bit in range(14)]
        word = sum((latents[c] > 0).long() << bit for bit, c in enumerate(channels))
        assert torch.equal(code.indices[0, book, 0], word)


@pytest.mark.parametrize("name", ["flowmo-lo", "d-ar", "flextok"])
def test_noise_is_the_images_own_and_of_the_seed(name, load):
    tokenizer = load(name, steps=2)
    side = tokenizer.spec.size.fixed[0]
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    code = tokenizer.encode(images)
    together = tokenizer.decode(code)
    torch.manual_seed(99)  # whoever else draws changes nothing
    assert torch.equal(tokenizer.decode(code), together)
    alone = tokenizer.decode(tokenizer.encode(images[1:]))
    # In a batch, matrix products round differently.
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-4)
    tokenizer.seed = 1
    assert (tokenizer.decode(code) - together).abs().mean() > 0.01


def test_noise_is_what_the_seed_gives_first():
    noise = draw_noise(3, 8, 5)
    torch.manual_seed(5)
    expected = torch.randn(1, 3, 8, 8)
    assert noise.dtype == torch.float32 and noise.device.type == "cpu"
    assert all(torch.equal(image, expected[0]) for image in noise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["flowmo-hi", "d-ar", "flextok"])
def test_the_contract_holds_in_full_and_half_precision(name, dtype, load, monkeypatch):
    tokenizer = load(name, dtype=dtype, steps=2)
    pictures = [photo(seed, 340, 520) for seed in range(2)]
    check_contract(tokenizer, pictures, skip=TRAINED_ONLY_CLAUSES)
    slopes = []

    def watch(velocity, start, times, **options):
        def watched(step, time, x):
            slopes.append((x.dtype, (slope := velocity(step, time, x)).dtype))
            return slope

        return integrate(watched, start, times, **options)

    module = {"flowmo-hi": flowmo, "d-ar": d_ar, "flextok": flextok}[name]
    monkeypatch.setattr(module, "integrate", watch)
    tokenizer.decode(tokenizer.encode(torch.full((1, 3, 256, 256), 0.5)))
    assert slopes == [(torch.float32, torch.float32)] * 2, "what adds up over the steps is float32"


@pytest.mark.parametrize("adams, worst", [(False, 0.2), (True, 0.02)])
def test_integration_is_of_its_order(adams, worst):
    # x' = x: e after one unit of time. Sixteen steps: an error of e/32 by Euler's method, and of the
    # order of its square by Adams and Bashforth's.
    errors = []
    for steps in (16, 32):
        times = torch.linspace(0, 1, steps + 1)
        end = integrate(lambda _, time, x: x, torch.ones(1), times, adams=adams)
        errors.append(abs(float(end) - math.e))
    assert errors[0] < worst
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2 if adams else 1, abs=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_does_not_fit_is_refused_by_name(name, folder, load):
    load(name)
    golden = load_golden(name)
    layout = golden["checkpoint"]["wrapper"]
    key = "encoder.img_in.weight" if name != "d-ar" else "diff_decoder.net.conv_in.weight"
    for change, message in (
        (lambda state: state.pop(key), "missing"),
        (lambda state: state.update({key + "er": torch.zeros(2)}), "unexpected"),
        (lambda state: state.update({key: torch.zeros(2)}), "misshaped"),
    ):
        content = torch.load(folder / f"{name}.pth", weights_only=True)
        change(content[layout])
        path = folder / f"{name}-{message}.pth"
        torch.save(content, path)
        with pytest.raises(WeightsMismatch, match=message):
            load_tokenizer(golden, path)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("flowmo-lo", {"stochastic": False}, "stochastic must be true"),
        ("d-ar", {"size": SizePolicy(16)}, "size.fixed must be a square, got None"),
        ("d-ar", {"codebook_size": None, "kind": "pixels"}, "codebook_size is missing"),
        ("flowmo-lo", {"codebook_size": 512}, "codebook_size is 512"),
        ("d-ar", {"input_range": (0.0, 1.0)}, "input_range"),
    ],
)
def test_an_entry_that_contradicts_its_plan_is_refused(name, change, message):
    golden = load_golden(name)
    adapter, spec = adapt(golden)
    with pytest.raises(RegistryError, match=message):
        adapter(dataclasses.replace(spec, **change), **golden["ours"]["options"], weights=None)


def test_bits_that_make_no_words_are_refused():
    golden = copy.deepcopy(load_golden("flowmo-lo"))
    golden["ours"]["options"]["config"]["word"] = 7
    adapter, spec = adapt(golden)
    with pytest.raises(RegistryError, match="18 bits are no words of 7"):
        adapter(spec, **golden["ours"]["options"], weights=None)


def test_other_steps_are_another_name_and_another_key():
    registry = load_registry()
    names = ("jpeg-q50", *NAMES)
    chosen = EntrySelection(tuple(registry[name] for name in names), ())
    changed = apply_variant(chosen, (), Variant(decoder_steps=10))
    assert [entry.deviations for entry in changed.entries] == [("steps-10",)] * 3
    assert [skipped.name for skipped in changed.skipped] == ["jpeg-q50@steps-10"]
    assert changed.entries[0].sha256 != registry["flowmo-lo"].sha256
    assert changed.entries[2].options["config"] == {"steps": 10}
    changed = apply_variant(chosen, NAMES[:2], Variant(decoder_steps=10, guidance=2.0))
    assert changed.entries[1].deviations == ("steps-10", "guidance-2.0")
    assert [skipped.name for skipped in changed.skipped][1:] == ["d-ar@guidance-2.0"]
    # What an entry has anyway is no deviation.
    assert apply_variant(chosen, (), Variant(decoder_steps=25)).entries[0] == registry["flowmo-lo"]
    with pytest.raises(RegistryError, match=r"d-ar: guidance 2.0: its options.config has none"):
        apply_variant(chosen, ["d-ar"], Variant(guidance=2.0))


def test_a_run_with_other_steps_is_another_row(
    folder, load, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    load("flowmo-lo")
    golden = load_golden("flowmo-lo")
    entry = {
        "title": "Small",
        "family": "flowmo",
        "adapter": golden["ours"]["adapter"],
        "options": {
            "config": golden["ours"]["options"]["config"] | {"steps": 3, "guidance": 1.5},
            "wrapper": golden["checkpoint"]["wrapper"],
        },
        "kind": "discrete",
        "quantizer": "lfq",
        "codebook_size": 2**18,
        "input_range": [-1, 1],
        "size": {"fixed": [32, 32], "policy": "resize"},
        "stochastic": True,
        "licence": "MIT",
        "weights": {"source": "local", "path": str(folder / "flowmo-lo.pth"), "licence": "MIT"},
        "description": "For a test.",
    }
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "small.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
    out = tmp_path / "out"
    command = ["run", "--suite", "mini", "--data", str(data), "--registry", str(registry)]
    command += ["-t", "small", "--task", "reconstruction", "--limit", "1", "--out", str(out)]
    assert main(command) == 0
    assert main([*command, "--decoder-steps", "2"]) == 0
    assert main([*command, "--guidance", "1.5"]) == 0
    assert {path.parent.name for path in out.glob("*/run.json")} == {"small", "small@steps-2"}
    own, other = (read_run(out / name) for name in ("small", "small@steps-2"))
    assert own.record.key != other.record.key
    assert main([*command[:-4], "--out", str(out), "-t", "jpeg-q50", "--guidance", "0.5"]) == 2
    checked = ["check", "small", "--random-weights", "--registry", str(registry)]
    capsys.readouterr()
    assert main([*checked, "--decoder-steps", "1"]) == 0
    assert capsys.readouterr().out.startswith("small@steps-1: ok (")
    assert main(["check", "jpeg-q50", "--decoder-steps", "1"]) == 2
