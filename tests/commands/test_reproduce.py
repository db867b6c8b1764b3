"""Published numbers: what the registry must say of each, and what may be concluded from a difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from vtbench.base.errors import RegistryError
from vtbench.cli import main
from vtbench.commands.reproduce import MEASURED_AS, Measured, compare, resolve_protocol
from vtbench.leaderboard.board import Cell
from vtbench.metrics.catalogue import METRICS
from vtbench.registry.entries import Entry, load_entry, load_registry
from vtbench.registry.published_protocols import PublishedProtocol, Reported, published_protocols

PROTOCOL: dict[str, Any] = {
    "source": "A paper, Table 1",
    "url": "https://example.org/paper",
    "standing": "verified",
    "data": "imagenet-val",
    "n": 50000,
    "size": 256,
    "crop": "adm",
    "reference": "the same crops",
    "posterior": "mode",
}
ENTRY: dict[str, Any] = {
    "title": "A tokenizer",
    "family": "sanity",
    "adapter": "vtbench.tokenizers.resample:Resample",
    "options": {"factor": 1},
    "kind": "pixels",
    "quantizer": "none",
    "licence": "Apache-2.0",
    "description": "Of the tests.",
}
MEASURED = Measured(
    suite="imagenet-val-256@1",
    run="subject",
    data="imagenet-val",
    size=256,
    crop="adm",
    posterior="mode",
    cells={
        "reconstruction.psnr_db": Cell(30.5, 50000, "measured"),
        "reconstruction.rfid": Cell(0.5, 50000, "measured"),
        "reconstruction.lpips_alex": Cell(0.1, 50000, "measured"),
        "reconstruction.lpips_vgg": Cell(None, 0, "missing", "no weights"),
    },
)


def entry_with(folder: Path, *reported: dict[str, Any], **changes: Any) -> Entry:
    path = folder / "subject.yaml"
    path.write_text(yaml.safe_dump({**ENTRY, **changes, "reported": list(reported)}))
    return load_entry(path)


def reported(values: dict[str, float], **changes: Any) -> dict[str, Any]:
    about = {k: changes.pop(k) for k in ("named", "decoder") if k in changes}
    return {"protocol": {**PROTOCOL, **changes}, "values": values, **about}


# What the registry says


def test_every_published_number_names_its_source_and_protocol() -> None:
    numbers = 0
    for entry in load_registry().values():
        for group in entry.reported:
            protocol = resolve_protocol(group)
            assert protocol.source and protocol.data, entry.name
            assert set(group.values) <= set(METRICS) | set(MEASURED_AS), entry.name
            assert set(protocol.departs) <= set(METRICS), entry.name
            numbers += len(group.values)
    assert numbers >= 40
    assert {p.standing for p in published_protocols().values()} == {"verified", "second-hand"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"protocol": "no-such-table"},
            r"reported\.0\.protocol: no protocol named 'no-such-table'",
        ),
        ({"values": {}}, "at least 1 item"),
        ({"values": {"psnr_db": float("nan")}}, r"\.nan. is a number, date or truth value"),
        ({"values": {"rFID": 1.0}}, "rFID"),
        (
            {"protocol": {k: v for k, v in PROTOCOL.items() if k != "source"}},
            r"protocol\.source: Field required",
        ),
        (
            {"protocol": {k: v for k, v in PROTOCOL.items() if k != "n"}},
            r"protocol\.n: Field required",
        ),
        ({"protocol": {**PROTOCOL, "standing": "from memory"}}, "standing"),
        ({"protocol": {**PROTOCOL, "url": "http://x"}}, r"reported\.0\.protocol\.url: String"),
        ({"protocol": {**PROTOCOL, "url": None}}, "what was verified has a url"),
    ],
)
def test_a_number_without_them_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(RegistryError, match=said) as caught:
        entry_with(tmp_path, {"protocol": PROTOCOL, "values": {"psnr_db": 30.0}, **change})
    assert "subject.yaml:" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(RegistryError, match="unknown key"):  # a bare number, as papers copy them
        entry_with(tmp_path, {"metric": "psnr_db", "value": 30.0})


def test_published_numbers_do_not_change_the_entry(tmp_path: Path) -> None:
    bare = entry_with(tmp_path)
    told = entry_with(tmp_path, reported({"psnr_db": 30.0}), trained_on="ImageNet")
    assert bare.sha256 == told.sha256


def test_no_two_shipped_entries_can_be_taken_for_each_other() -> None:
    """FIELD.md, trap 15: three checkpoints called SD-VAE, three called DC-AE f32c32."""
    entries = load_registry().values()
    assert clashes(list(entries)) == []
    first, second = list(entries)[:2]
    assert clashes([first, second.model_copy(update={"title": first.title})])
    twin = first.model_copy(update={"name": "twin", "title": "Twin"})
    assert clashes([first, twin])


def clashes(entries: list[Entry]) -> list[str]:
    """Return what two entries share although it tells them apart: their title, or all of their content
    that can change a number."""
    seen: dict[object, str] = {}
    found = []
    for entry in entries:
        content = replace_name(entry).sha256
        for sign in (entry.title.casefold(), content):
            if sign in seen:
                found.append(f"{entry.name} and {seen[sign]}")
            seen[sign] = entry.name
    return found


def replace_name(entry: Entry) -> Entry:
    return entry.model_copy(update={"name": ""})


@pytest.mark.slow
def test_an_ambiguous_name_chooses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["run", "-t", "sd-vae"], ["reproduce", "sd-vae"], ["fetch", "dc-ae-f32c32"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "did you mean" in said and said.count("\n") == 1


# What may be concluded


def only(entry: Entry, measured: Measured = MEASURED) -> Any:
    (comparison,) = compare(entry, entry.reported[0], measured)
    return comparison


def test_the_same_protocol(tmp_path: Path) -> None:
    comparison = only(entry_with(tmp_path, reported({"psnr_db": 30.0})))
    assert comparison.protocol == "same"
    assert comparison.difference == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "choice"),
    [
        ({"data": "coco-val2017"}, "data"),
        ({"n": 5000}, "n"),
        ({"size": 512}, "size"),
        ({"crop": "resize-crop-bilinear"}, "crop"),
        ({"reference": "train"}, "reference"),
        ({"departs": {"rfid": "clean-fid"}}, "definition"),
    ],
)
def test_each_choice_that_differs_is_named(
    tmp_path: Path, change: dict[str, Any], choice: str
) -> None:
    """FIELD.md, trap 24: the mutant leaves the choice out of the comparison and calls it the same."""
    comparison = only(entry_with(tmp_path, reported({"rfid": 0.4}, **change)))
    assert comparison.protocol == "differs"
    assert [c.name for c in comparison.choices if c.verdict == "differs"] == [choice]


@pytest.mark.parametrize("choice", ["n", "size", "crop", "reference"])
def test_what_the_source_does_not_say_is_not_the_same(tmp_path: Path, choice: str) -> None:
    comparison = only(entry_with(tmp_path, reported({"rfid": 0.4}, **{choice: None})))
    assert comparison.protocol == "open"
    assert [c.name for c in comparison.choices if c.verdict == "open"] == [choice]


def test_a_reference_matters_to_metrics_of_a_set_alone(tmp_path: Path) -> None:
    entry = entry_with(tmp_path, reported({"psnr_db": 30.0}, reference="train"))
    assert only(entry).protocol == "same"


def test_a_sampled_posterior_is_another_protocol(tmp_path: Path) -> None:
    latent = {"kind": "continuous", "quantizer": "kl", "latent_channels": 4}
    sampled = entry_with(tmp_path, reported({"psnr_db": 30.0}, posterior="sample"), **latent)
    assert only(sampled).protocol == "differs"
    plain = entry_with(tmp_path, reported({"psnr_db": 30.0}, posterior="sample"))
    assert only(plain).protocol == "same", "without a posterior there is nothing to sample"


def test_a_name_that_settles_no_checkpoint_is_never_the_same(tmp_path: Path) -> None:
    """FIELD.md, trap 15, in a table of another paper."""
    entry = entry_with(tmp_path, reported({"psnr_db": 30.0}, named="SD-VAE"))
    assert only(entry).protocol == "open"
    assert only(replace_reported(entry, named=None)).protocol == "same"


def test_a_decoder_that_draws_is_never_the_same_without_its_steps(tmp_path: Path) -> None:
    """FIELD.md, trap 16: diffusion decoders, noise-augmented ones, refiners."""
    entry = entry_with(tmp_path, reported({"psnr_db": 30.0}), stochastic=True)
    assert [c.name for c in only(entry).choices if c.verdict == "open"] == ["decoder"]
    entry = entry_with(tmp_path, reported({"psnr_db": 30.0}, decoder="with the renderer"))
    assert only(entry).protocol == "open"


def test_a_network_that_nobody_stated_is_compared_with_both(tmp_path: Path) -> None:
    entry = entry_with(tmp_path, reported({"lpips": 0.09}))
    alex, vgg = compare(entry, entry.reported[0], MEASURED)
    assert (alex.metric, alex.measured, alex.protocol) == ("lpips_alex", 0.1, "open")
    assert (vgg.metric, vgg.measured, vgg.reason) == ("lpips_vgg", None, "missing: no weights")


def test_a_deviating_run_is_another_protocol(tmp_path: Path) -> None:
    entry = entry_with(tmp_path, reported({"psnr_db": 30.0}))
    assert only(entry, replace(MEASURED, crop="center")).protocol == "differs"
    assert only(entry, replace(MEASURED, size="native")).protocol == "differs"


def replace_reported(entry: Entry, **changes: Any) -> Entry:
    group: Reported = entry.reported[0].model_copy(update=changes)
    return entry.model_copy(update={"reported": (group,)})


def test_a_protocol_is_strict() -> None:
    with pytest.raises(ValueError, match="colour"):
        PublishedProtocol.model_validate({**PROTOCOL, "colour": "red"})


# From a run to the terminal


@pytest.mark.slow
def test_reproduce_prints_measured_beside_published(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    mini = {**PROTOCOL, "data": "mini", "n": 4, "size": "native", "crop": "none"}
    registry = tmp_path / "registry"
    registry.mkdir()
    entry_with(
        registry,
        {"protocol": mini, "values": {"psnr_db": 99.0, "lpips_alex": 0.1}},
        {"protocol": "sdxl-vae-card", "values": {"psnr_db": 24.7}},
        trained_on="nothing",
    )
    more = ["--registry", str(registry), "--data", str(data)]
    assert main(["reproduce", "subject", *more]) == 0
    assert "nothing measured: `vtbench run --tokenizer subject" in capsys.readouterr().out
    assert main(["run", "--suite", "mini", "-t", "subject", *more]) == 0
    capsys.readouterr()
    assert main(["reproduce", "subject", *more]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["trained", "on:", "nothing"] in lines
    run = ["subject", "on", "mini@1"]
    assert ["psnr_db", "99", "100.00", "+1.00", "same", *run] in lines
    assert ["psnr_db", "24.7", "100.00", "+75.30", "differs", *run] in lines
    assert any(line[:6] == ["lpips_alex", "0.1", "-", "-", "-", "subject"] for line in lines)
    text = [" ".join(line) for line in lines]
    assert "differs: data: coco-val2017 | mini (mini@1)" in text
    assert "differs: n: 5000 | 4 (mini@1)" in text
    assert "differs: size: 256 | native (mini@1)" in text
    assert "open: crop: not stated | none (mini@1)" in text
    # The mutant: a folder of results that is given is the only one that is read.
    assert main(["reproduce", "subject", "--results", str(tmp_path / "none"), *more]) == 2
