"""The Python door: a model in the middle of training, a suite by name, images that are held."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vtbench
from vtbench.base.errors import (
    CellFailed,
    ImageError,
    RegistryError,
    UnknownName,
    VtbenchError,
)
from vtbench.commands.publish import publish_results
from vtbench.results.folder import read_run


class Small(nn.Module):
    """An autoencoder of 8×8 patches with everything that an evaluation could disturb."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Dropout(0.5), nn.BatchNorm2d(4))
        self.decoder = nn.ConvTranspose2d(4, 3, 8, 8)
        self.decoder.requires_grad_(False)

    def encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images


def step(model: Small, optimizer: torch.optim.Optimizer) -> float:
    """Take one training step on random images; return its loss."""
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    loss = (model.decode(model.encode(images)) - images).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def train(evaluate: Callable[[Small], object] | None) -> tuple[list[float], Small]:
    """Return the losses of three steps, an evaluation after the first."""
    model = Small().train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    torch.manual_seed(1)
    losses = [step(model, optimizer)]
    if evaluate is not None:
        evaluate(model)
    losses += [step(model, optimizer) for _ in range(2)]
    return losses, model


@pytest.mark.slow
@pytest.mark.parametrize(
    "surroundings", [torch.enable_grad, torch.no_grad], ids=["grad", "no grad"]
)
def test_a_training_goes_on_as_if_nothing_had_been_evaluated(
    surroundings: Callable[[], torch.no_grad], data: Path
) -> None:
    def evaluate(model: Small) -> None:
        with surroundings():
            result = vtbench.evaluate(model, "mini", downsample=8, data=[data], limit=1)
        assert result.scores["reconstruction.psnr_db"] > 0
        assert model.training and model.encoder[1].training
        assert not model.decoder.weight.requires_grad
        assert model.encoder[0].weight.grad is not None

    disturbed, model = train(evaluate)
    undisturbed, _ = train(None)
    assert disturbed == undisturbed
    assert model.training


@pytest.mark.slow
def test_the_numbers_are_those_of_the_command_line(data: Path, tmp_path: Path) -> None:
    from vtbench.cli import main

    assert main(["run", "--suite", "mini", "--data", str(data), "-t", "jpeg-q50"]) == 0
    run = read_run(Path("results/local/mini/jpeg-q50"))
    result = vtbench.evaluate("jpeg-q50", "mini", data=[data])
    same = ("id", "psnr_db", "ssim", "bits", "tokens", "char_edits", "contrast_transfer")
    ours = result.to_arrow().to_pylist()
    assert [[row.get(key) for key in same] for row in ours] == [
        [row[key] for key in same] for row in run.rows
    ]
    assert result.scores["reconstruction.psnr_db"] == pytest.approx(
        np.mean([row["psnr_db"] for row in run.rows if row["task"] == "reconstruction"]), rel=1e-12
    )


@pytest.mark.slow
def test_a_result_shows_itself_and_is_kept(data: Path, tmp_path: Path) -> None:
    result = vtbench.evaluate("resize-2x", "mini", data=[data])
    page = result._repr_html_()
    assert page.count("<img src='data:image/png;base64,") == 4  # two pictures, original and image
    assert "PSNR" in page and "resize-2x on mini@1" in page
    assert "reconstruction.psnr_db" in repr(result)
    assert list(result.to_pandas()["id"]) == [row["id"] for row in result.to_arrow().to_pylist()]
    assert result.plot("psnr_db").axes
    with pytest.raises(vtbench.VtbenchError, match="no image has a value of 'rfid'"):
        result.plot("rfid")
    saved = result.save(tmp_path / "kept")
    again = vtbench.read_results(tmp_path / "kept")["resize-2x"]
    assert again.scores == result.scores and saved.is_dir()
    folder = result.folder
    del result, again
    gc.collect()
    assert not folder.exists()


@pytest.mark.slow
def test_a_damaged_run_is_named_and_takes_no_other_with_it(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("resize-2x", "identity"):
        vtbench.evaluate(name, suite="mini", data=[data], tasks=["detail"]).save(tmp_path)
    (tmp_path / "identity" / "images.parquet").write_bytes(b"edited")
    results = vtbench.read_results(tmp_path)
    assert list(results) == ["resize-2x"]
    (complaint,) = results.damaged
    assert "identity" in complaint and complaint in caplog.text


@pytest.mark.slow
def test_scores_have_intervals_and_states(data: Path) -> None:
    scores = {s.key: s for s in vtbench.evaluate("jpeg-q50", "mini", data=[data]).summary()}
    psnr = scores["reconstruction.psnr_db"]
    assert psnr.n == 4 and psnr.unit == "dB" and psnr.value is not None
    assert (
        scores["reconstruction.lpips_alex"].state == "missing"
        if ("reconstruction.lpips_alex" in scores)
        else True
    )


@pytest.mark.slow
def test_images_that_are_held_are_a_suite() -> None:
    images = torch.rand(3, 3, 24, 40)
    heard: list[tuple[int, int]] = []
    result = vtbench.evaluate("identity", images, callback=lambda *at: heard.append(at))
    assert result.scores["reconstruction.psnr_db"] == 100
    assert heard[-1] == (3, 3)
    arrays = [np.zeros((16, 20, 3), np.uint8), torch.rand(3, 32, 8)]
    assert vtbench.evaluate("identity", arrays).to_arrow().num_rows == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 8, 8) * 255, r"images are in \[0, 1\]; divide 0…255 by 255"),
        (torch.rand(1, 3, 8, 8) * 2 - 1, r"map −1…1 by x / 2 \+ 0.5"),
        (torch.full((1, 3, 8, 8), torch.nan), "NaN or infinite"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "not torch.int64"),
        (torch.rand(1, 1, 8, 8), "expected RGB images"),
        ([], "no images were given"),
        (["none.png"], "no such file"),
        ([object()], "not object"),
    ],
)
def test_images_of_another_range_are_refused(images: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        vtbench.evaluate("identity", images)


@pytest.mark.slow
def test_a_discrete_model_has_its_rate_and_its_tokens_are_counted(data: Path) -> None:
    def encode(images: Tensor) -> Tensor:
        return (images.mean(dim=1)[:, ::8, ::8] * 127.5 + 127.5).round().clamp(0, 255).long()

    def decode(tokens: Tensor) -> Tensor:
        gray = tokens.float().repeat_interleave(8, 1).repeat_interleave(8, 2) / 127.5 - 1
        return gray[:, None].expand(-1, 3, -1, -1)

    tokenizer = vtbench.wrap(
        encode=encode, decode=decode, codebook_size=256, downsample=8, name="g"
    )
    result = vtbench.evaluate(tokenizer, "mini", data=[data], tasks=["reconstruction"])
    row = result.to_arrow().to_pylist()[0]
    assert (row["tokens"], row["bits"]) == (64, 64 * 8)
    assert row["entropy_bits"] < row["bits"]
    vtbench.check(tokenizer, trained=False)


@pytest.mark.slow
def test_bits_can_be_given(data: Path) -> None:
    model = Small()
    fixed = vtbench.evaluate(model, "mini", downsample=8, bits=100.0, data=[data], limit=1)
    assert {row["bits"] for row in fixed.to_arrow().to_pylist()} == {100.0}
    counted = vtbench.evaluate(
        model, "mini", downsample=8, bits=lambda z: [z[0].numel()] * len(z), data=[data], limit=1
    )
    assert counted.to_arrow().to_pylist()[0]["bits"] == 4 * 8 * 8


@pytest.mark.slow
def test_posteriors_tuples_and_mappings_are_codes(data: Path) -> None:
    class Posterior:
        def __init__(self, latents: Tensor) -> None:
            self.latents = latents

        def mode(self) -> Tensor:
            return self.latents

    codes = [
        (lambda x: Posterior(x), lambda z: z, None),
        (lambda x: {"latents": x, "extra": 1}, lambda z: z["latents"], None),
        (
            lambda x: ((x * 127.5 + 127.5).round().long(),) * 2,
            lambda z: z[1].float() / 127.5 - 1,
            256,
        ),
    ]
    for encode, decode, size in codes:
        result = vtbench.evaluate(
            None, "mini", encode=encode, decode=decode, codebook_size=size, data=[data], limit=1
        )
        assert result.scores["reconstruction.psnr_db"] == 100


def test_a_mapping_comes_back_to_the_decoder_with_the_latents_that_are_decoded() -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def encode(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"latents": images[:, :, ::2, ::2], "side": images.mean()}

    def decode(code: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(code)
        return code["latents"].repeat_interleave(2, -1).repeat_interleave(2, -2)

    tokenizer = vtbench.wrap(encode=encode, decode=decode, downsample=2)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = tokenizer.encode(images), tokenizer.encode(1 - images)
    before = tokenizer.decode(first)  # of the batch before the last
    assert torch.equal(before, tokenizer.decode(first))
    assert not torch.equal(before, tokenizer.decode(second))
    tokenizer.decode(first.quantize_8bit())
    assert "side" in seen[-1] and not torch.equal(seen[-1]["latents"], seen[0]["latents"])


@pytest.mark.slow
def test_what_a_model_raises_names_its_line(data: Path) -> None:
    def encode(images: Tensor) -> Tensor:
        raise ValueError("of the stranger")

    with pytest.raises(CellFailed, match=r"ValueError: of the stranger \(test_evaluate.py:\d+\)"):
        vtbench.evaluate(None, "mini", encode=encode, decode=encode, data=[data], limit=1)


@pytest.mark.slow
def test_what_cannot_be_asked_is_refused(data: Path) -> None:
    with pytest.raises(UnknownName, match="no tokenizer named 'jpeg-50'"):
        vtbench.evaluate("jpeg-50", "mini", data=[data])
    with pytest.raises(UnknownName, match="no metric named 'psnr'"):
        vtbench.evaluate("jpeg-q50", "mini", metrics=["psnr"], data=[data])
    with pytest.raises(VtbenchError, match="has no encode and decode"):
        vtbench.evaluate(nn.Identity(), "mini", data=[data])
    with pytest.raises(CellFailed, match="give codebook_size"):
        vtbench.evaluate(
            None, "mini", encode=lambda x: x.long(), decode=lambda z: z, data=[data], limit=1
        )
    for name in ("../up", "Big", "con", ""):
        with pytest.raises(VtbenchError):
            vtbench.wrap(Small(), name=name or "a" * 90)


@pytest.mark.slow
def test_results_of_models_are_marked_and_never_published(data: Path, tmp_path: Path) -> None:
    vtbench.evaluate(Small(), "mini", downsample=8, data=[data], out=tmp_path / "out")
    with pytest.raises(VtbenchError, match="it is of a model that is no registry entry"):
        list(publish_results(tmp_path / "out", tmp_path / "published"))
    first = read_run(tmp_path / "out" / "small").record
    vtbench.evaluate(Small(), "mini", downsample=8, data=[data], out=tmp_path / "out")
    assert read_run(tmp_path / "out" / "small").record.key != first.key  # never reused


@pytest.mark.slow
def test_extra_metrics_stand_beside_the_suites(data: Path) -> None:
    result = vtbench.evaluate("jpeg-q50", "mini", metrics=["haarpsi"], tasks=["text"], data=[data])
    assert result.to_arrow().to_pylist()[0]["haarpsi"] > 0
    assert "haarpsi" in result.record.protocol.metrics


@pytest.mark.slow
def test_two_results_are_compared(data: Path) -> None:
    a, b = (vtbench.evaluate(name, "mini", data=[data]) for name in ("jpeg-q50", "jpeg-q10"))
    comparison = vtbench.compare(a, b, metrics=["psnr_db"])
    assert {d.column.key for d in comparison.differences} >= {"reconstruction.psnr_db"}
    with pytest.raises(VtbenchError, match="of one name cannot be told apart"):
        vtbench.compare(a, a)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_model_is_another_row_and_is_itself_again_afterwards(tmp_path: Path) -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    model = Small().train()
    plain = vtbench.evaluate(model, images, downsample=8, name="mine")
    compiled = vtbench.evaluate(model, images, downsample=8, name="mine", compile=True)
    assert (plain.name, compiled.name) == ("mine", "mine@compile")
    assert not plain.record.protocol.compiled and plain.record.compilation is None
    found = compiled.record.compilation
    # The encoder and the decoder, and no pixel moved by an eighth of a level.
    assert found is not None and found.modules == 2 and found.images == 3
    assert found.most_levels < found.tolerance_levels == 1 / 8
    assert compiled.record.protocol.compiled
    for one, two in zip(*(r.to_arrow().to_pylist() for r in (plain, compiled)), strict=True):
        # An eighth of a level may round a pixel to its neighbour; few are so near to an edge.
        assert two["psnr_db"] == pytest.approx(one["psnr_db"], abs=0.01)
    assert model.training
    assert all(module._compiled_call_impl is None for module in model.modules())


@pytest.mark.slow
def test_a_compiled_network_that_differs_or_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mend(module: nn.Module) -> None:  # stands for a compiler that changes pixels
        module._compiled_call_impl = lambda x: module._call_impl(x) + 0.5

    monkeypatch.setattr(nn.Module, "compile", mend)
    monkeypatch.setattr("vtbench.runs.runner.require_compiler", lambda device: None)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    model = Small()
    with pytest.raises(CellFailed, match=r"small@compile: --compile: refused: .* levels of 8 bits"):
        vtbench.evaluate(model, images, downsample=8, compile=True)
    assert all(module._compiled_call_impl is None for module in model.modules())
    for tokenizer, error in (("identity", RegistryError), (None, CellFailed)):
        with pytest.raises(error, match="no network"):
            vtbench.evaluate(
                tokenizer,  # type: ignore[arg-type]
                images,
                compile=True,
                **({} if tokenizer else {"encode": lambda x: x, "decode": lambda x: x}),  # type: ignore[arg-type]
            )


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_one_string_is_one_name_and_not_its_letters() -> None:
    result = vtbench.evaluate(Small(), IMAGES, downsample=8, metrics="gmsd", tasks="reconstruction")
    assert "reconstruction.gmsd" in result.scores
    assert "reconstruction.gmsd" in [score.key for score in result.summary()]  # it was asked for
    with pytest.raises(UnknownName, match="no metric named 'haarps'"):
        vtbench.evaluate(Small(), IMAGES, downsample=8, metrics="haarps")
    with pytest.raises(UnknownName, match="no task named 'recon'"):
        vtbench.score(IMAGES, IMAGES, tasks="recon")


def test_an_argument_that_does_not_apply_is_refused_and_not_passed_over() -> None:
    for name, value in (("downsample", 8), ("name", "mine"), ("bits", 3), ("input_range", (0, 1))):
        with pytest.raises(VtbenchError, match=f"{name}= is an argument of a model"):
            vtbench.evaluate("jpeg-q50", IMAGES, **{name: value})
    for name, value in (("device", "cuda"), ("weights", "a.pt"), ("registry", "mine")):
        with pytest.raises(VtbenchError, match=f"{name}= is an argument of a registry's tokenizer"):
            vtbench.evaluate(Small(), IMAGES, **{name: value})
    for limit in (0, -1):
        with pytest.raises(VtbenchError, match=f"limit {limit}: expected one image or more"):
            vtbench.evaluate("jpeg-q50", IMAGES, limit=limit)
        with pytest.raises(VtbenchError, match=f"limit {limit}: expected one image or more"):
            vtbench.score(IMAGES, IMAGES, limit=limit)
    with pytest.raises(VtbenchError, match="'jpeg-q50' is not a Result"):
        vtbench.compare("jpeg-q50", "jpeg-q25")  # type: ignore[arg-type]


def test_a_tokenizer_is_called_and_says_what_it_is() -> None:
    tokenizer = vtbench.wrap(Small().eval(), downsample=8)
    assert tokenizer(IMAGES).shape == IMAGES.shape
    assert repr(tokenizer) == "<tokenizer small: continuous (own), f8; float32 on cpu>"
    with pytest.raises(ImageError, match="divide 0…255 by 255"):
        tokenizer(IMAGES * 255)
    with pytest.raises(CellFailed, match=r"got tuple of torch\.float32"):
        vtbench.evaluate(None, IMAGES, encode=lambda x: (x, 0.1), decode=lambda z: z)
    with pytest.raises(CellFailed, match="but the tokenizer is discrete: leave out codebook_size"):
        vtbench.evaluate(Small(), IMAGES, downsample=8, codebook_size=4)
    with pytest.raises(vtbench.VtbenchError, match="give downsample= or multiple="):
        vtbench.check(Small())


def test_a_folder_by_name_is_a_folder_where_no_suite_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtbench.evaluation.given_images import write_images

    monkeypatch.chdir(tmp_path)
    write_images(IMAGES.permute(0, 2, 3, 1).numpy(), Path("photographs"))  # of JAX: channels last
    result = vtbench.evaluate(Small(), "photographs", downsample=8)
    assert result.suite.images == {"reconstruction": 2}
