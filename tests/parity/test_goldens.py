"""Every golden: ours gives the figures that the official code gave on the same weights.

Each golden names the upstream repository, commit, class and config; README.md says how it was made.
"""

from __future__ import annotations

import pytest
from parity.derive import digest_shapes
from parity.golden import (
    GOLDENS,
    compare,
    load_golden,
    load_tokenizer,
    official_shapes,
    write_checkpoint,
)


@pytest.mark.parametrize("name", GOLDENS)
def test_ours_gives_what_the_official_code_gave(name, tmp_path):
    golden = load_golden(name)
    assert {"repository", "commit", "class", "config"} <= set(golden["upstream"])
    shapes = official_shapes(golden)
    assert len(shapes) == golden["keys"] and digest_shapes(shapes) == golden["keys_sha256"]
    tokenizer = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.ckpt"))
    parameters = sum(tensor.numel() for tensor in tokenizer.model.parameters())
    assert parameters == golden["parameters"]
    assert compare(tokenizer, golden) == []


def test_a_sign_that_is_no_tie_is_not_forgiven(tmp_path):
    golden = load_golden("bitdance")
    tokenizer = load_tokenizer(golden, write_checkpoint(golden, tmp_path / "official.ckpt"))
    golden["indices"]["sha256"] = "0" * 64
    assert compare(tokenizer, golden) == ["indices"]
