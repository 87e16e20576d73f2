# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage evaluate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    dataset: Annotated[
        str,
        typer.Argument(
            help="nyu, nyu_h5, make3d, tum, sevenscenes, folder, bag, rendered, kitti, "
            "kitti_depth, kitti_tracking, lidar16 or packed.",
            show_default=False,
        ),
    ],
    root: Annotated[Path, typer.Option("--root", help="Where the recording lies.")] = Path("."),
    split: Annotated[
        Optional[str],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option("--split", help="Part of the recording, such as val."),
    ] = None,
    sparse: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--sparse",
            help="none, bernoulli:N, lines:N or points; may be given several times, one row each. "
            "Default: points where the recording has some, else bernoulli:200. Samples are "
            "counted at full resolution. bernoulli and lines take disturbances: "
            "bernoulli:200,outliers=0.05 (share at random depths), wrong=0.05 (share off by 30 %), "
            "shift=8 (pixels).",
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="Name of shipped weights, or a file.")
    ] = "default",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also nearest, linear (Delaunay) and smooth interpolation and morphological "
            "completion of the same samples; without samples the mean depth of the training split.",
        ),
    ] = False,
    anchor: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--anchor",
            help="none, scale or residual (default); several are several reports in one.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="full, E (papers E, B), eigen or centre of NYU; make3d (criterion C1); garg or "
            "kitti (depth completion); C, D-kitti-small, D-kitti or D-nyu.",
        ),
    ] = "full",
    measures: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--measures",
            help="Columns of the table: usual, A, B, C, D, E, kitti, all or names such as "
            "rel,irmse. Default: the protocol's. The JSON has all.",
        ),
    ] = None,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Average over pixels instead of over images.")
    ] = False,
    temporal: Annotated[
        bool,
        typer.Option(
            "--temporal",
            help="Also from frame to frame, by the true poses: how steady the scale is, and depth "
            "moved into the next view against the depth there.",
        ),
    ] = False,
    slam: Annotated[
        bool, typer.Option("--slam", help="Run the SLAM core too: ATE, RPE, lost frames, mesh.")
    ] = False,
    depth: Annotated[
        str, typer.Option("--depth", help="Depth that SLAM fuses: predicted or sensor.")
    ] = "predicted",
    poses: Annotated[
        str, typer.Option("--poses", help="Poses of SLAM: odometry, or given (the true ones).")
    ] = "odometry",
    fusion: Annotated[
        str,
        typer.Option(
            "--fusion",
            help="tsdf, or surfels: beside it the point-based map of paper E's demonstration "
            "(Keller et al.) fuses the same frames at --poses given.",
        ),
    ] = "tsdf",
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            help="What maps are compared with: sensor (the TSDF of sensor depth at true poses) or "
            "surfaces (of rendered rooms, as far as the frames saw them).",
        ),
    ] = "sensor",
    params: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--params", help="ROS parameter file; SLAM reads mapping_node's part."),
    ] = None,
    assign: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "-p", help="NAME=VALUE of mapping_node's parameters, for SLAM, or surfels.NAME=VALUE."
        ),
    ] = None,
    kidnap: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--kidnap",
            metavar="KIND:FIRST:COUNT",
            help="With --slam: frames that are cut out, dark, or show a hand before the lens "
            "(cut, dark, hand); frames from each return to recovery, fused poses that are wrong. "
            "May be repeated.",
        ),
    ] = None,
    slam_only: Annotated[
        bool,
        typer.Option(
            "--slam-only",
            help="With --slam --depth sensor: trajectory and map alone, without the network and "
            "the gate's statistics, in a third of the time.",
        ),
    ] = False,
    colours: Annotated[
        str,
        typer.Option(
            "--colours",
            help="How the network sees the image: recorded, inverted or night; unfamiliar ones "
            "should lower the confidence.",
        ),
    ] = "recorded",
    half: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--half",
            help="Only the first half of the recording, to which --calibrate fits, or the second.",
        ),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", min=1, help="Only the first N frames (of the half)."),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            "--every", min=1, help="Only every N-th frame: those of a recording are alike."
        ),
    ] = 1,
    pictures: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--pictures", help="Folder for pictures side by side, and SLAM's meshes."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Instead: fit the confidence formula to the first half of the recording, write it "
            "beside the weights, measure the other half.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the drawn samples.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cuda or cpu.")] = "auto",
    engine: Annotated[
        str, typer.Option("--engine", help="auto, torch, openvino or onnxruntime.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="auto, fp32, fp16 or bf16.")
    ] = "auto",
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="Of the engine; 0 is all cores but one.")
    ] = 0,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Pin to one core: two runs are identical."),
    ] = False,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the report as JSON."),
    ] = None,
) -> None:
    """Measure depth, trajectory and map on a recording, frame by frame, without ROS."""
    if deterministic:
        threads = pin()
    from depth_two_stage import (
        calibration,
        evaluation,
        evaluation_tables,
        files,
        kidnapping,
        metrics,
        tables,
    )
    from depth_two_stage.datasets import open_dataset
    from depth_two_stage.estimator import DepthEstimator

    # Everything that can be refused is refused before the long work.
    files.check_writable(json_file)
    files.check_writable(pictures, folder=True)
    columns = None if measures is None else metrics.chosen(measures)
    frames = open_dataset(dataset, root, split)
    if half is not None:
        if calibrate:
            raise ValueError(f"--half: expected none with --calibrate, which halves, got {half!r}")
        frames = calibration.half_of(frames, half)
    frames, returns = frames[::every][:limit], ()
    if kidnap:
        if not slam:
            raise ValueError(f"--kidnap: expected none without --slam, got {kidnap[0]!r}")
        frames = kidnapping.Kidnapped(frames, [kidnapping.Kidnapping.parse(k) for k in kidnap])
        returns = frames.returns()
    anchors = list(dict.fromkeys(anchor or ["residual"]))
    mapping, surfels = slam_parameters(params, assign)
    options = {"device": device, "precision": precision, "engine": engine, "threads": threads}
    plan = evaluation.Plan(
        sparse=tuple(dict.fromkeys(sparse or [evaluation.default_sparse(frames)])),
        baselines=baselines,
        protocol=protocol,
        pooled=pooled,
        seed=seed,
        temporal=temporal,
        colours=colours,
        slam=slam,
        depth=depth,
        poses=poses,
        fusion=fusion,
        reference=reference,
        mapping=mapping,
        surfels=surfels,
        returns=returns,
        slam_only=slam_only,
        pictures=pictures,
    )
    with tables.Bars() as bars:
        if calibrate:
            report = calibration.calibrate(
                frames, weights, seed, bars.track, anchor=anchors[0], **options
            )
        else:
            estimator = DepthEstimator(weights, anchor=anchors[0], **options)
            mean = None
            if baselines and "none" in plan.sparse:
                mean = evaluation.mean_depth(dataset, root, bars.track)
            reports = []
            for estimator.anchor in anchors:
                reports.append(evaluation.evaluate(frames, estimator, plan, mean, bars.track))
            report = reports[0] | {"half": half}
            if len(reports) > 1:
                report["anchors"] = {r["anchor"]: r["results"] for r in reports}
    if calibrate:
        tables.show(evaluation_tables.calibration_line(report))
    for one in [report] if calibrate else reports:
        tables.show(*evaluation_tables.evaluation_tables(one, columns))
    if json_file is not None:
        files.write_json(json_file, report)


def pin() -> int:
    """Pin this process to one core before anything starts a thread pool; return 1 thread."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return 1


def slam_parameters(params: Path | None, assign: list[str] | None):
    """Return the mapping node's and the surfels' parameters of a ROS file and of NAME=VALUE."""
    from depth_two_stage import config

    from . import parse_assignments

    values = {}
    if params is not None:
        values |= config.of_package(config.load_yaml(params)["mapping_node"])
    assigned, group = parse_assignments(assign), "surfels."
    own = {
        name.removeprefix(group): assigned.pop(name)
        for name in [*assigned]
        if name.startswith(group)
    }
    return (
        config.from_flat(config.MappingNodeParameters, values | assigned),
        config.from_flat(config.SurfelParameters, own),
    )
