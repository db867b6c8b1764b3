"""Opening of the network behind a metric of deep features, with its published weights."""

from __future__ import annotations

import torch

from vtbench.metrics.catalogue import FeatureSource
from vtbench.metrics.faces import FaceFeatures
from vtbench.metrics.features import Encoder, InceptionFeatures, VitFeatures
from vtbench.metrics.inception import Inception
from vtbench.weights.metrics import (
    file_names,
    find_metric_weights,
    get_metric_weights,
    stated_digests,
)


def open_encoder(
    source: FeatureSource,
    *,
    device: torch.device | str,
    with_logits: bool = False,
    inceptions: dict[str, Inception] | None = None,
) -> Encoder:
    """Return the network whose features a metric compares.

    Args:
        source: which network, resizing and dtype.
        device: where it runs.
        with_logits: also the FID Inception's logits, behind its features.
        inceptions: networks that are open already, by dtype; a new one is added.

    Raises:
        WeightsMissing, WeightsMismatch: its file is not here, or is another.
    """
    path = find_metric_weights(source.network).path
    sha256 = stated_sha256(source.network)
    if source.network == FaceFeatures.name:
        return FaceFeatures(path, sha256=sha256)
    if source.network != "fid-inception":
        return VitFeatures(source.network, path, device=device, sha256=sha256)
    opened = {} if inceptions is None else inceptions
    if source.dtype not in opened:
        dtype = torch.float64 if source.dtype == "float64" else torch.float32
        opened[source.dtype] = Inception(path, device=device, dtype=dtype, sha256=sha256)
    return InceptionFeatures(
        opened[source.dtype],
        source.resizing,
        with_logits=with_logits or source.distance == "inception-score",
    )


def stated_sha256(network: str) -> str | None:
    """Return the sha256 that the catalogue states for a network's file."""
    entry = get_metric_weights(network)
    return stated_digests(entry, *file_names(entry))[0]
