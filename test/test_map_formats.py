# SPDX-License-Identifier: Apache-2.0
"""The grid as map_server reads it: a YAML always names a whole picture. Others: test_meshing."""

import cv2
import numpy as np
import pytest
import yaml
from small_maps import PARAMETERS, pose

from depth_two_stage import map_formats
from depth_two_stage.atomic import WriteError
from depth_two_stage.files import read_trajectory
from depth_two_stage.map_file import MapError
from depth_two_stage.occupancy import Occupancy
from depth_two_stage.tsdf import TsdfMap

DATA = np.array([[0, 100, -1], [-1, -1, 100]], np.int8)


def grid(data=DATA):
    return Occupancy(data, 0.05, (-1.25, 2.0))


def read(path):
    """What map_server makes of a file in trinary mode: data with row 0 at the origin, the YAML."""
    content = yaml.safe_load(path.read_text())
    pixels = cv2.imread(str(path.parent / content["image"]), cv2.IMREAD_UNCHANGED)
    occupancy = (255 - pixels.astype(float)) / 255
    data = np.full(pixels.shape, -1)
    data[occupancy > content["occupied_thresh"]] = 100
    data[occupancy < content["free_thresh"]] = 0
    return data[::-1], content


def test_map_server_reads_what_was_written(tmp_path):
    path = tmp_path / "it's a map.yaml"
    size = map_formats.write_map_server(path, grid())
    data, content = read(path)
    np.testing.assert_array_equal(data, DATA)
    assert content["resolution"] == 0.05 and content["origin"] == [-1.25, 2.0, 0.0]
    assert content["mode"] == "trinary" and content["negate"] == 0
    assert size == sum(entry.stat().st_size for entry in tmp_path.iterdir())


def test_a_newer_map_replaces_the_pair_and_nothing_else(tmp_path):
    path = tmp_path / "map.yaml"
    kept = ["map.pgm", "map.0123456.pgm", "other.01234567.pgm", "map.01234567.png"]
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    for data in (DATA, DATA[::-1], DATA[::-1]):
        map_formats.write_map_server(path, grid(data))
    np.testing.assert_array_equal(read(path)[0], DATA[::-1])
    image = yaml.safe_load(path.read_text())["image"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"map.yaml", image, *kept}


@pytest.mark.parametrize("fails", ["the picture", "the yaml"])
def test_a_disk_that_fails_in_between_leaves_the_older_pair(tmp_path, monkeypatch, fails):
    path = tmp_path / "map.yaml"
    map_formats.write_map_server(path, grid())
    before = path.read_bytes()
    real = map_formats.atomic_write

    def failing(target, *mode):
        if (target == path) == (fails == "the yaml"):
            raise WriteError(f"{target}: expected a writable file, got no space left")
        return real(target, *mode)

    monkeypatch.setattr(map_formats, "atomic_write", failing)
    with pytest.raises(OSError, match="no space left"):
        map_formats.write_map_server(path, grid(DATA[::-1]))
    assert path.read_bytes() == before
    np.testing.assert_array_equal(read(path)[0], DATA)


def test_an_ending_without_a_format_is_refused():
    with pytest.raises(MapError, match=r"\.npz, \.ply, \.yaml or \.tum, got 'map.pgm'"):
        map_formats.check_name("map.pgm")


def test_stamps_of_a_trajectory_file_ascend(tmp_path):
    """A bag in a loop, and a clock that was set back: of each time the last pose is written."""
    map = TsdfMap(PARAMETERS)
    stamps = [10, 20, 30, 40, 30, 50, 60, 20, 25]
    poses = [(stamp * 10**8, pose(x)) for x, stamp in enumerate(stamps)]
    path, rest = tmp_path / "path.tum", (map.meta(0), poses, 0.5, grid)
    map_formats.write(path, map.blocks, *rest)
    written = [(stamp // 10**8, round(T[0, 3])) for stamp, T in read_trajectory(path)]
    assert written == [(10, 0), (20, 7), (25, 8)]
    assert map_formats.ascending([]) == []
