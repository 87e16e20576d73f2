# SPDX-License-Identifier: Apache-2.0
"""What a recipe's values may be: names to choose from, least and largest numbers."""

from __future__ import annotations

from depth_two_stage.datasets.ranges import RANGES

LOSS_NAMES = (
    *("berhu", "berhu_image", "rmse", "relative", "relative_log", "l1", "l2", "half_l2"),
    *("scale_invariant", "scale_invariant_printed", "log_l1"),
)
CHOICES = {
    "device": ("auto", "cuda", "cpu"),
    "precision": ("fp32", "fp16", "bf16"),
    "encoder_channel": ("mean", "zero"),
    "stage_one.optimizer": ("sgd", "adam", "adamw"),
    "stage_one.schedule": ("steps", "cosine", "constant"),
    "stage_two.schedule": ("cosine", "constant"),
    "outliers.schedule": ("cosine", "constant"),
    "registration.schedule": ("cosine", "constant"),
    "prior.schedule": ("cosine", "constant"),
    "joint_filter.schedule": ("cosine", "constant"),
    "stage_one.loss": LOSS_NAMES,
    "stage_two.loss": ("l1", "rmse", "relative", "relative_log", "log_l1"),
    "prior.loss": ("rmse", "relative", "relative_log", "l1"),
    "stage_two.form": ("non_saturating", "min_max"),
    "view.paper": tuple(RANGES),
    "stage_two.pairs": tuple(RANGES),
}
#: the least value where it is not 0
LEAST = {
    "save_every": 1,
    "data.look_every": 1,
    "stage_one.batch": 1,
    "stage_two.batch": 1,
    "stage_one.every": 1,
    "sparse.beam_counts": 1,
    "stage_two.none": -1,  # that of ``sparse``
    "sparse.elevation": 0.1,
    "sparse.discs": 1,
    "sparse.corruption.outlier_depth": 0.01,
    "view.powers": 0.1,
    "outliers.batch": 1,
    "registration.batch": 1,
    "prior.batch": 1,
    "joint_filter.batch": 1,
    "prior.scale": 0.1,
    "outliers.depths": 0.01,
    "photometry.stops": -8,
    "photometry.gamma": 0.1,
    "photometry.quality": 1,
}
SHARES = {
    *("sparse.none", "sparse.beams", "sparse.dropout", "stage_two.none", "view.flip"),
    *("view.stretch", "stage_two.strange"),
    *("outliers.wrong", "outliers.shares", "outliers.factors"),
    *("registration.moved", "joint_filter.offset"),
    *("sparse.corners", "sparse.clusters", "sparse.radius", "sparse.half", "data.mix.share"),
    *("sparse.corruption.noise", "sparse.corruption.outliers", "sparse.corruption.shift"),
    *("sparse.corruption.outlier_share", "sparse.corruption.outlier_factor"),
    *(
        f"photometry.{name}"
        for name in ("exposure", "noise", "motion", "defocus", "jpeg", "offset")
    ),
}
#: the largest value where there is one
MOST = {
    **dict.fromkeys(SHARES, 1),
    "sparse.elevation": 89,
    "photometry.quality": 100,
    "registration.farthest": 6,  # `networks.registration.REACH`
}
#: pairs from which something is drawn: the lower comes first
ORDERED = {
    *("sparse.elevation", "sparse.discs", "sparse.radius"),
    *(f"sparse.corruption.{name}" for name in ("noise_std", "noise_relative", "outlier_share")),
    *("sparse.corruption.outlier_depth", "sparse.corruption.shift_px"),
    *("outliers.shares", "outliers.factors", "outliers.depths", "prior.scale"),
    *(f"photometry.{name}" for name in ("stops", "gamma", "noise_std", "quality")),
    *("photometry.motion_px", "photometry.defocus_px", "photometry.offset_px", "view.powers"),
}


def place(name: str) -> str:
    """The name by which a value's limits are found: points are declared at several places."""
    for stage in ("outliers.", "registration.", "joint_filter."):
        if name.startswith(f"{stage}sparse."):
            return name.removeprefix(stage)
    return name
