"""The records of what becomes of faces whose place is annotated. No torch."""

from __future__ import annotations

from vtbench.base.records import Metric

_FLOATS = "list<float64>"
_POOLED = (
    "unweighted mean of the means of TokBench's three buckets of face size; "
    "of one bucket, the mean over its faces"
)

FACES = (
    Metric(
        key="face_identity",
        label="Face identity",
        unit="",
        better="higher",
        version=1,
        pooled=_POOLED,
        definition=(
            "Cosine between the ArcFace embeddings (insightface's antelopev2) of a face in the original "
            "and at the same place in the reconstruction, turned upright by its annotated five points. "
            "The original is the picture at the size that the tokenizer is given; TokBench's F-Sim "
            "compares with the picture before that. Beside it: the same face through JPEG of quality "
            "75, and the next face of the same picture, who is another person."
        ),
        source="F-Sim of TokBench, arXiv 2505.18142; Deng et al., CVPR 2019; deepinsight/insightface",
        decimals=4,
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.known_faces:open_identity",
        columns={
            "face_ratio": _FLOATS,  # the face's size over the picture's longer side, as annotated
            "face_identity": _FLOATS,
            "face_identity_jpeg": _FLOATS,  # the original's face through JPEG
            "face_identity_other": _FLOATS,  # of another person; empty where the picture has one face
        },
        weights=("antelopev2",),
    ),
    Metric(
        key="face_shift",
        label="Face landmark shift",
        unit="eye distance",
        better="lower",
        version=1,
        pooled=_POOLED,
        definition=(
            "Mean distance between the 106 landmarks (insightface's 2d106det) of a face in the original "
            "and at the same place in the reconstruction, over the distance of the eyes. Both are found "
            "in the same upright cut by the annotated five points, one and a half faces wide. Beside "
            "it: the same face through JPEG of quality 75, and the next face of the same picture."
        ),
        source="normalized mean error of Sagonas et al., ICCVW 2013; deepinsight/insightface",
        decimals=4,
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.known_faces:open_shift",
        columns={
            "face_ratio": _FLOATS,
            "face_shift": _FLOATS,
            "face_shift_jpeg": _FLOATS,
            "face_shift_other": _FLOATS,
        },
        weights=("face-landmarks",),
    ),
)
"""Every record, in the order of the tables."""
