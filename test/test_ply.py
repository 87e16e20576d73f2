# SPDX-License-Identifier: Apache-2.0
"""PLY files: ours and Open3D's agree; bad ones are named."""

import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.files import FileError

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
COLORS = np.random.default_rng(1).integers(0, 256, (50, 3), np.uint8)
TRIANGLES = np.random.default_rng(2).integers(0, 50, (20, 3)).astype(np.int32)


def test_ply_comes_back_as_written(tmp_path):
    path = tmp_path / "mesh.ply"
    files.write_ply(path, POINTS, COLORS, TRIANGLES, normals=POINTS)
    again = files.read_ply(path)
    assert np.array_equal(again.points, POINTS) and np.array_equal(again.normals, POINTS)
    assert np.array_equal(again.colors, COLORS) and np.array_equal(again.triangles, TRIANGLES)
    files.write_ply(path, POINTS[:0])
    again = files.read_ply(path)
    assert again.points.shape == (0, 3) and again.colors is None and again.triangles is None


@pytest.mark.parametrize("ascii", [True, False])
def test_ply_of_open3d_and_ours_agree(tmp_path, ascii):
    o3d = pytest.importorskip("open3d")
    ours, theirs = str(tmp_path / "ours.ply"), str(tmp_path / "theirs.ply")
    files.write_ply(ours, POINTS, COLORS, TRIANGLES)
    mesh = o3d.io.read_triangle_mesh(ours)
    assert np.array_equal(np.asarray(mesh.vertices), POINTS.astype(np.float64))
    assert np.array_equal(np.asarray(mesh.triangles), TRIANGLES)
    assert np.allclose(np.asarray(mesh.vertex_colors) * 255, COLORS, atol=1e-3)
    assert o3d.io.write_triangle_mesh(theirs, mesh, write_ascii=ascii)
    again = files.read_ply(theirs)
    assert np.allclose(again.points, POINTS, atol=1e-5)
    assert np.array_equal(again.colors, COLORS)
    assert np.array_equal(again.triangles, TRIANGLES)


PLY_XYZ = b"ply\nformat ascii 1.0\nelement vertex 1\n" + b"".join(
    b"property float %s\n" % axis for axis in (b"x", b"y", b"z")
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "expected a PLY header"),
        (b"not a ply", "expected a PLY header"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "expected a PLY line"),
        (b"ply\nelement vertex 0\nend_header\n", "expected a format line"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "x, y, z"),
        (b"ply\nformat ascii 1.0\nelement vertex two\nend_header\n", "expected a PLY line"),
        (b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "expected a PLY line"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nend_header\n", "got none"),
        (PLY_XYZ + b"property float x\nend_header\n", "vertex: expected properties of different"),
    ],
)
def test_bad_ply_is_named(tmp_path, data, says):
    (tmp_path / "bad.ply").write_bytes(data)
    with pytest.raises(FileError, match=says):
        files.read_ply(tmp_path / "bad.ply")


def test_truncated_ply_is_an_error(tmp_path):
    path = tmp_path / "mesh.ply"
    files.write_ply(path, POINTS, COLORS, TRIANGLES)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileError, match="face: expected 20 entries, got 19"):
        files.read_ply(path)


def test_a_mesh_with_corners_that_are_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="triangles: expected indices below 50"):
        files.write_ply(tmp_path / "mesh.ply", POINTS, triangles=[[0, 1, 50]])
    with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\), got \(50, 2\)"):
        files.write_ply(tmp_path / "mesh.ply", POINTS[:, :2])
    assert not list(tmp_path.iterdir())
