"""Ordered tokens: a row for each length of the prefix that is kept, and what such a row holds.

The two networks have the derived weights of their goldens, which are those of the official code.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from parity.golden import load_golden, load_tokenizer, write_checkpoint
from parity.small import write_registry

from vtbench.base.errors import RegistryError
from vtbench.cli import main
from vtbench.registry.entries import load_registry
from vtbench.results.folder import read_run
from vtbench.runs.request import EntrySelection, Variant, apply_variant
from vtbench.tokenizers.d_ar import DAr, DArNetwork
from vtbench.tokenizers.nn.diffusion import draw_noise

GROUP, TOKENS = 8, 64


@pytest.mark.parametrize(
    ("name", "group", "lengths"),
    [("titok-s128", 1, (1, 2, 5, 8)), ("d-ar", 8, (8, 32, 64)), ("flextok", 1, (1, 9, 64))],
)
def test_each_length_is_a_row_of_the_table(
    name: str,
    group: int,
    lengths: tuple[int, ...],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry, out = write_registry(tmp_path, name, group=group), tmp_path / "out"
    command = ["run", "--suite", "mini", "--data", str(data), *registry, "--out", str(out)]
    command += ["-t", "small", "--task", "reconstruction", "--limit", "1"]
    assert main([*command, "--tokens", ",".join(map(str, lengths))]) == 0
    rows = [*(f"small@tokens-{n}" for n in lengths[:-1]), "small"]
    assert {path.parent.name for path in out.glob("*/run.json")} == set(rows)
    bits = {
        n: round(read_run(out / row).rows[0]["bits"] / n, 9)
        for n, row in zip(lengths, rows, strict=True)
    }
    assert len(set(bits.values())) == 1, "a token has the same bits in each row"
    assert len({read_run(out / row).rows[0]["psnr_db"] for row in rows}) == len(rows)
    capsys.readouterr()
    chosen = ["--rows", ",".join(rows), "--columns", "rate.tokens,psnr_db"]
    assert main(["table", "--results", str(out), *chosen]) == 0
    printed = re.findall(r"^\| (small\S*) \| (\d+) \| \d+\.\d+ \|$", capsys.readouterr().out, re.M)
    assert printed == [(row, str(n)) for row, n in zip(rows, lengths, strict=True)]
    assert main(["validate", str(out), *registry, "--data", str(data)]) == 0


def sample_official(model: DArNetwork, code: torch.Tensor, steps: int) -> torch.Tensor:
    """Return what D-AR's decode_code(clip_steps=steps) does, step by step, with all tokens given."""
    plan = model.plan
    x = model.after(model.quantizer.decode(code)).squeeze(2).mT + model.places[: plan.tokens]
    mask = torch.ones(plan.tokens, plan.tokens, dtype=torch.bool).tril()
    for block in model.code:
        x = block(x, mask=mask)
    features = functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    times = torch.tensor([step / plan.steps for step in range(steps)] + [1.0])
    times = times / (times + plan.shift * (1 - times))
    state, before = draw_noise(len(code), model.side, 0), None
    for step in range(steps):
        group = features[:, step * GROUP : (step + 1) * GROUP]
        slope = model.flow(state, times[step : step + 1], group)
        mean = slope if before is None else 1.5 * slope - 0.5 * before
        state, before = state + (times[step + 1] - times[step]) * mean, slope
    return state / plan.deviation


@torch.inference_mode()
def test_the_first_groups_give_the_official_preview(tmp_path: Path) -> None:
    golden = load_golden("d-ar")
    whole = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.pth"))
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    code = whole.model.encode(images)
    wrapper, config = golden["checkpoint"]["wrapper"], golden["ours"]["options"]["config"]
    for steps in (1, 3, 8):
        some = DAr(
            whole.spec,
            config={**config, "kept": steps * GROUP},
            weights=tmp_path / "official.pth",
            wrapper=wrapper,
        )
        first = some.model.encode(images)
        assert torch.equal(first, code[..., : steps * GROUP])
        preview = sample_official(whole.model, code, steps)
        # The state is float32 on both sides; sums over fewer tokens are in another order.
        assert (some.model.decode(first) - preview).abs().max() < 1e-4 * preview.abs().max()
    for kept in (12, 72):
        with pytest.raises(RegistryError, match=f"kept: {kept} of 64 tokens in groups of 8"):
            DAr(whole.spec, config={**config, "kept": kept}, weights=None)


def test_what_has_no_order_keeps_all_of_its_tokens() -> None:
    registry = load_registry()
    rows = EntrySelection((registry["one-d-piece-s-256"], registry["d-ar"]), ())
    changed = apply_variant(rows, [], Variant(tokens=(32, 33, 256)))
    named = [entry.row_name for entry in changed.entries]
    assert named == [
        *("one-d-piece-s-256@tokens-32", "d-ar@tokens-32", "one-d-piece-s-256@tokens-33"),
        *("one-d-piece-s-256", "d-ar"),
    ]
    assert [skipped.name for skipped in changed.skipped] == ["d-ar@tokens-33"]
    assert "multiples of 32" in changed.skipped[0].reason
    digests = {entry.sha256 for entry in changed.entries}
    assert len(digests) == len(named), "another row has another digest"
    for name, count in (("titok-s128", 32), ("d-ar", 33), ("one-d-piece-s-256", 257)):
        with pytest.raises(RegistryError, match=f"{name}: tokens {count}: "):
            apply_variant(EntrySelection((registry[name],), ()), [name], Variant(tokens=(count,)))
    assert main(["check", "titok-s128", "--random-weights", "--tokens", "many"]) == 2
    assert main(["check", "titok-s128", "--random-weights", "--tokens", "0"]) == 2
