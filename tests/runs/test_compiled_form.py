"""`--compile`: what is compiled, what it may change, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import photo
from PIL import Image
from torch import Tensor, nn

from vtbench.base.errors import CellFailed, RegistryError, VtbenchError
from vtbench.base.names import check_run_name
from vtbench.base.records import Sample, SizePolicy, Spec
from vtbench.cli import main
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.results.run_key import digest_key
from vtbench.runs import compiled_form
from vtbench.runs.compiled_form import compile_tokenizer, require_compiler
from vtbench.runs.planning import plan_run
from vtbench.suites.batches import Batch
from vtbench.suites.image_folder import folder_suite
from vtbench.tokenizers.base import Code, Tokenizer

COMPILER = shutil.which("g++") is not None


class Small(Tokenizer):
    """An encoder and a decoder of two layers, called as an adapter calls them."""

    def __init__(self, *, discrete: bool = False, dtype: torch.dtype = torch.float32) -> None:
        kind: Any = "discrete" if discrete else "continuous"
        size = SizePolicy(4, None, "pad")
        super().__init__(Spec("x", "t", kind, "own", latent_channels=4, size=size), dtype=dtype)
        torch.manual_seed(0)
        self.model = nn.Module()
        self.model.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.SiLU())
        self.model.decoder = nn.Sequential(nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Sigmoid())
        self.model.unused = nn.Linear(3, 3)
        self.model.to(dtype)
        self.discrete = discrete

    def _encode(self, images: Tensor) -> Code:
        latents = self.model.encoder(images.to(self.dtype))
        if self.discrete:
            return Code.discrete(latents[:, 0].float().mul(8).round().clamp(0, 15).long(), 16)
        return Code.continuous(latents)

    def _decode(self, code: Code) -> Tensor:
        if code.indices is not None:
            assert isinstance(code.indices, Tensor)
            latents = code.indices[:, None].expand(-1, 4, -1, -1).to(self.dtype) / 8
        else:
            assert code.latents is not None
            latents = code.latents
        decoded: Tensor = self.model.decoder(latents)
        return decoded


def make_batch(count: int = 3) -> Batch:
    pixels = torch.randint(0, 256, (count, 3, 32, 24), generator=torch.Generator().manual_seed(1))
    samples = tuple(Sample(f"{n}", "t", "s", Path("x"), 24, 32) for n in range(count))
    return Batch(samples, pixels.to(torch.uint8), count)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Stands for torch.compile: what it compiles gives values that are `off` by so much."""
    said = {"off": 0.0, "calls": 0}

    def compile_module(module: nn.Module) -> None:
        forward = module.forward
        said["calls"] += 1
        module.forward = lambda x: forward(x) + said["off"]  # type: ignore[method-assign]

    monkeypatch.setattr(nn.Module, "compile", compile_module)
    return said


def test_modules_that_the_tokenizer_calls_itself_are_compiled(compiler: dict[str, float]) -> None:
    found = compile_tokenizer(Small(), make_batch())
    assert (found.modules, compiler["calls"]) == (2, 2)
    assert (found.most_levels, found.images, found.tolerance_levels) == (0.0, 3, 1 / 8)


def test_a_difference_above_the_tolerance_is_refused(compiler: dict[str, float]) -> None:
    compiler["off"] = 2e-4
    found = compile_tokenizer(Small(), make_batch())
    assert 0 < found.rms_levels <= found.most_levels < 1 / 8
    compiler["off"] = 2e-3
    with pytest.raises(
        CellFailed, match=r"--compile: refused: .* levels of 8 bits \(at most 0.125"
    ):
        compile_tokenizer(Small(), make_batch())
    # 16 bits round by themselves: there the mean counts.
    half = compile_tokenizer(Small(dtype=torch.bfloat16), make_batch())
    assert half.tolerance_levels == 1.0 and half.rms_levels < 1.0
    compiler["off"] = 0.02
    with pytest.raises(CellFailed, match="root mean square"):
        compile_tokenizer(Small(dtype=torch.bfloat16), make_batch())
    compiler["off"] = float("nan")
    with pytest.raises(CellFailed, match="NaN"):
        compile_tokenizer(Small(), make_batch())


def test_changed_tokens_are_refused_in_float32(
    compiler: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler["off"] = 0.02
    monkeypatch.setitem(compiled_form.TOLERANCE, torch.float32, 255.0)
    with pytest.raises(CellFailed, match=r"[1-9][0-9]* of 576 tokens changed"):
        compile_tokenizer(Small(discrete=True), make_batch())


def test_what_cannot_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: nn.Module) -> None:
        raise RuntimeError("\nInductor: no such operator\nsecond line")

    monkeypatch.setattr(nn.Module, "compile", fail)
    with pytest.raises(
        CellFailed, match="cannot compile it: RuntimeError: Inductor: no such op"
    ) as e:
        compile_tokenizer(Small(), make_batch())
    assert "\n" not in str(e.value)


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(VtbenchError, match="no C\\+\\+ compiler is here \\(no-such-compiler\\)"):
        require_compiler("cpu")


@pytest.mark.slow
def test_what_cannot_be_compiled_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(0, 32, 32)).save(tmp_path / "in" / "0.png")
    arguments = ["run", "--images", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "-t", "ref-kl-f8", "--compile", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "no C++ compiler" in said and "Traceback" not in said
    assert main([*arguments, "-t", "jpeg-q50", "--compile", "--device", "cpu"]) == 2
    assert "jpeg-q50: --compile: it has no network" in capsys.readouterr().err
    assert main([*arguments, "--module", "a:b", "--compile"]) == 2


def test_a_compiled_run_is_another_row_with_another_key(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(0, 32, 32)).save(tmp_path / "in" / "0.png")
    suite, registry = folder_suite(tmp_path / "in"), load_registry()
    request = plan_run(suite, registry, names=["ref-kl-f8"], compiled=True, dtype="bf16")
    name = request.run_name(request.entries[0])
    assert name == check_run_name("ref-kl-f8@bf16+compile")
    with pytest.raises(RegistryError, match="no network"):
        plan_run(suite, registry, names=["identity"], compiled=True)
    both = plan_run(suite, registry, names=["identity", "ref-kl-f8"], families=[], compiled=False)
    assert not both.compiled


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
@pytest.mark.parametrize("discrete", [False, True])
def test_torch_compiles_a_small_network_to_the_same_pixels(discrete: bool) -> None:
    plain, compiled, batch = Small(discrete=discrete), Small(discrete=discrete), make_batch()
    found = compile_tokenizer(compiled, batch)
    assert found.modules == 2 and found.most_levels < 1 / 8 and found.tokens_changed == 0
    assert found.tokens == (3 * 16 * 12 if discrete else 0)
    assert all(m._compiled_call_impl is not None for m in (compiled.model.encoder,))
    other = torch.rand(1, 3, 16, 40)  # another size is compiled anew
    one, two = (t.decode(t.encode(other)) for t in (plain, compiled))
    assert (one - two).abs().max() < compiled_form.SAME


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_a_compiled_run_says_what_it_changed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(photo(number, 32, 32)).save(tmp_path / "in" / f"{number}.png")
    out = tmp_path / "out"
    arguments = ["run", "--images", str(tmp_path / "in"), "--out", str(out), "--device", "cpu"]
    assert main([*arguments, "-t", "ref-kl-f8"]) == 0
    assert main([*arguments, "-t", "ref-kl-f8", "--compile"]) == 0
    plain, compiled = (read_run(out / name) for name in ("ref-kl-f8", "ref-kl-f8@compile"))
    assert compiled.record.protocol.compiled and plain.record.compilation is None
    found = compiled.record.compilation
    assert found is not None and found.images == 3 and found.most_levels < 1 / 8
    assert compiled.record.key == digest_key(compiled.record) != plain.record.key
    for one, other in zip(plain.rows, compiled.rows, strict=True):
        # An eighth of a level may round a pixel to its neighbour; few are so near to an edge.
        assert other["psnr_db"] == pytest.approx(one["psnr_db"], abs=0.01)
