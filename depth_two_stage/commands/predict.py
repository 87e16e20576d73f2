# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    points: Annotated[
        Optional[Path],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option(
            "--points",
            help="Measured points of the one image: .npy (N, 3), .pcd, .ply or .bin (float32 x y "
            "z i), metres, in the camera's optical frame (x right, y down, z forward).",
        ),
    ] = None,
    extrinsics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--extrinsics",
            help='"x y z qx qy qz qw": T_camera_points, when the points are in another frame.',
        ),
    ] = None,
    sparse_depth: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--sparse-depth", help="16-bit PNG of millimetres, 0 = none, of the image."),
    ] = None,
    camera: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--camera",
            help="camera.json, or the YAML of ROS's camera_calibration. Without it a view of 60° "
            "is assumed, and depth is as wrong as that.",
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="Name of shipped weights, or a file.")
    ] = "default",
    anchor: Annotated[str, typer.Option("--anchor", help="none, scale or residual.")] = "residual",
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
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the table as JSON."),
    ] = None,
) -> None:
    """Depth of image files: 16-bit PNG (mm), .npy (m), a picture and a coloured PLY cloud each."""
    from depth_two_stage import files, prediction, tables
    from depth_two_stage.estimator import DepthEstimator

    files.check_writable(output, folder=True)
    files.check_writable(json_file)
    if points is not None and sparse_depth is not None:
        raise ValueError("--points: expected it or --sparse-depth, got both")
    if len(images) > 1 and (points or sparse_depth):
        raise ValueError(f"IMAGE: expected one with measured depth, got {len(images)}")
    if extrinsics is not None and points is None:
        raise ValueError("--extrinsics: expected --points with it, got none")
    lens = None if camera is None else prediction.read_lens(camera)
    T_camera_points = None if extrinsics is None else prediction.parse_extrinsics(extrinsics)
    shots = [prediction.Shot(i, lens, points, sparse_depth, T_camera_points) for i in images]
    with tables.Bars() as bars:
        estimator = DepthEstimator(weights, device, precision, engine, threads, anchor)
        rows = prediction.predict(estimator, shots, output, bars.track)
    if lens is None:
        typer.echo(
            f"camera: none given, a view {prediction.FIELD_OF_VIEW:.0f}° wide is assumed", err=True
        )
    tables.show(tables.prediction_table(rows))
    if json_file is not None:
        files.write_json(json_file, rows)
