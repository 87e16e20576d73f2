# SPDX-License-Identifier: Apache-2.0
"""Map files: whole or not at all; those of other settings, damaged and foreign ones are refused."""

import dataclasses
import resource

import numpy as np
import pytest
from small_maps import CAMERA, PARAMETERS, open3d_grid, pose, wall

from depth_two_stage.tsdf import MapError, TsdfMap
from depth_two_stage.tsdf_blocks import VALUES


def saved(tmp_path):
    map = TsdfMap(PARAMETERS)
    map.integrate(*wall(), CAMERA, pose())
    path = tmp_path / "map.npz"
    map.save(path)
    return map, path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"voxel_size": 0.03}, "expected voxel_size 0.03, got 0.02"),
        ({"truncation": 6.0}, "expected truncation"),
        ({"memory_mb": 1.0}, "expected at most 12 blocks"),
        ({"frame": "odom"}, "expected frame 'odom', got 'map'"),
    ],
)
def test_map_of_other_settings_is_refused(tmp_path, change, says):
    _, path = saved(tmp_path)
    frame = change.pop("frame", "map")
    map = TsdfMap(dataclasses.replace(PARAMETERS, **change), frame)
    with pytest.raises(MapError, match=says):
        map.load(path)
    assert map.statistics()["map_blocks"] == 0


def test_damaged_and_foreign_files_leave_the_map_untouched(tmp_path):
    map, path = saved(tmp_path)
    before = map.blocks.read(map.blocks.slots())
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.npz"
    bad = {"missing.npz": None, "empty.npz": b"", "text.npz": b"hello" * 100}
    bad |= {f"cut_{share}.npz": whole[: int(len(whole) * share)] for share in (0.1, 0.5, 0.99)}
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    bad["flipped.npz"] = bytes(flipped)
    np.savez(foreign, voxel_size=0.02, meta=np.array(["x"]))
    bad["foreign.npz"] = foreign.read_bytes()
    grid = open3d_grid(PARAMETERS)
    grid.save(str(tmp_path / "open3d.npz"))
    bad["open3d.npz"] = (tmp_path / "open3d.npz").read_bytes()
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(MapError, match=name):
            map.load(tmp_path / name)
        after = map.blocks.read(map.blocks.slots())
        for value in VALUES:
            np.testing.assert_array_equal(after[value], before[value])


@pytest.mark.parametrize("camera", [[160, 120], ["a"] * 6, [160, 120, -1, 132, 79, 60], 5])
def test_a_camera_that_is_none_is_refused(tmp_path, monkeypatch, camera):
    map, path = saved(tmp_path)
    meta = dataclasses.replace(map.meta(0), camera=camera)
    monkeypatch.setattr(map, "meta", lambda poses: meta)
    map.save(path)
    with pytest.raises(MapError, match=r"expected a map of this package, got .*"):
        TsdfMap(PARAMETERS).load(path)
    # A file from before cameras were kept is read.
    monkeypatch.setattr(map, "meta", lambda poses: dataclasses.replace(meta, camera=None))
    map.save(path)
    map.load(path)
    assert map.camera is None


def test_pickled_arrays_are_refused(tmp_path):
    map = TsdfMap(PARAMETERS)
    np.savez(tmp_path / "pickle.npz", meta=np.array([{"format": 1}], object))
    with pytest.raises(MapError, match=r"pickle\.npz"):
        map.load(tmp_path / "pickle.npz")


def test_full_disk_leaves_the_old_file(tmp_path):
    map, path = saved(tmp_path)
    old = path.read_bytes()
    map.integrate(*wall(2.5), CAMERA, pose(turn=1.0))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"map\.npz"):
            map.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.npz"]
    with pytest.raises(OSError, match="expected a writable file"):
        map.save("/proc/nowhere/map.npz")
