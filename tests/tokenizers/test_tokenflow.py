"""TokenFlow: what decides its words, and where its pixels come from. That it gives the official figures
is in tests/parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from parity.golden import adapt, compare, load_golden, load_tokenizer, write_checkpoint

from vtbench.base.errors import RegistryError
from vtbench.tokenizers import tokenflow
from vtbench.tokenizers.nn.quantize import JointCodebook


def test_the_word_is_the_nearest_of_all_by_both_parts() -> None:
    torch.manual_seed(0)
    book = JointCodebook(40, (6, 3))
    vectors = torch.randn(2, 9, 4, 5)
    found = book.encode(vectors)
    gaps = torch.zeros(2, 4, 5, 40)
    for part, entries in zip(vectors.split((6, 3), dim=1), book.parts, strict=True):
        unit = functional.normalize(part, dim=1).movedim(1, -1)[..., None, :]
        gaps += (unit - functional.normalize(entries.entries, dim=1)).square().sum(dim=-1)
    assert torch.equal(found, gaps.argmin(dim=-1)) and len(found.unique()) > 10
    # Neither part alone gives them, and what is decoded has two parts of length 1.
    for part, entries in zip(vectors.split((6, 3), dim=1), book.parts, strict=True):
        assert not torch.equal(entries.encode(part), found)
    decoded = book.decode(found).split((6, 3), dim=1)
    for part in decoded:
        torch.testing.assert_close(part.norm(dim=1), torch.ones(2, 4, 5))


@torch.inference_mode()
def test_pixels_are_of_the_second_part_alone() -> None:
    golden = load_golden("tokenflow-siglip")
    adapter, spec = adapt(golden)
    tokenizer = adapter(spec, **golden["ours"]["options"], weights=None)
    vectors = torch.randn(1, 24, 4, 4)
    other = vectors.clone()
    other[:, :16] += 1
    model: Any = tokenizer.model
    assert torch.equal(model.decode_vectors(vectors), model.decode_vectors(other))
    assert model.decode_vectors(vectors).shape == (1, 3, 60, 60)


@pytest.mark.slow
def test_positions_that_are_resampled_to_the_grid_itself_do_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = load_golden("tokenflow-clipb")
    tokenizer = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.pt"))

    def list_places(self: tokenflow.Semantics) -> torch.Tensor:
        planes = self.places[1:].mT.reshape(1, -1, self.side, self.side)
        grid = functional.interpolate(planes, size=(self.grid, self.grid), mode="bicubic")
        return torch.cat([self.places[:1], grid.flatten(2)[0].mT])

    monkeypatch.setattr(tokenflow.Semantics, "_list_places", list_places)
    assert "latents" in compare(tokenizer, golden)


def test_an_entry_that_contradicts_its_plan_is_refused() -> None:
    golden = load_golden("tokenflow-clipb")
    adapter, spec = adapt(golden)
    config = golden["ours"]["options"]["config"]
    with pytest.raises(RegistryError, match=r"a square of 3 patches of 16, got \(64, 64\)"):
        adapter(spec, config={**config, "sides": [1, 2, 3]}, weights=None)
    with pytest.raises(RegistryError, match=r"conv\.width and sides are needed"):
        adapter(spec, config={**config, "sides": []}, weights=None)
