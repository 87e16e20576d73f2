# SPDX-License-Identifier: Apache-2.0
"""Map files: whole or not at all; those of other settings, damaged and foreign ones are refused."""

import dataclasses
import io
import json
import os
import resource
import zipfile

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
    with pytest.raises(MapError, match=r"map\.npz: .*camera"):
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


def array(values):
    """The content of a .npy entry."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(values), allow_pickle=False)
    return content.getvalue()


def claim(shape, kind):
    """The header of an array that does not follow."""
    content = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def text(content):
    return array(np.frombuffer(content, np.uint8))


def scaled(factor):
    return lambda content: array(np.load(io.BytesIO(content)) * np.float32(factor))


def far(content):
    keys = np.load(io.BytesIO(content))
    keys[0] = 2**31 - 1
    return array(keys)


def meta(**changes):
    def change(content):
        values = json.loads(np.load(io.BytesIO(content)).tobytes())
        return text(json.dumps({**values, **changes}).encode())

    return change


INFINITY = float("inf")
FOREIGN = {
    **{
        f"{name} {value!r}": {"meta": meta(**{name: value})}
        for name, values in {
            "voxel_size": ("x", None, [0.02, 0.02], float("nan"), True),
            "truncation": ("x", -INFINITY),
            "frame": (5, None),
            "frames": ("x", -3, 1.5, 10**30),
            "blocks": (INFINITY, "42", 42.5, -1, 10**9),
            "poses": (INFINITY, "2", [2]),
            "camera": ("abcdef", [10**9, 10**9, 100, 100, 50, 50], [160.5, 120, 1, 1, 1, 1]),
            "more": (1,),
        }.items()
        for value in values
    },
    "deep": {"meta": lambda _: text(b"[" * 60_000)},
    "much": {"meta": lambda _: text(b"[" * 600_000)},
    "claims poses": {"poses": lambda _: claim((10**9, 4, 4), "<f8")},
    "claims stamps": {"stamps": lambda _: claim((2,), "<i8")},
    "claims meta": {"meta": lambda _: claim((10**15,), "|u1")},
    "no rotations": {"poses": lambda _: array(np.tile(2 * np.eye(4), (2, 1, 1)))},
    "far poses": {"poses": lambda _: array(np.tile(pose(1e6), (2, 1, 1)))},
    "no poses": {"poses": lambda _: array(np.zeros((2, 4, 4)))},
    "far keys": {"keys_0": far},
    "negative weight": {"weight_0": scaled(-1)},
    "great weight": {"weight_0": scaled(1e30)},
    "great tsdf": {"tsdf_0": scaled(1e30)},
    "no colour": {"color_0": scaled(-1)},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A map of a wall with two poses, its file, and the entries of that."""
    map = TsdfMap(PARAMETERS)
    map.integrate(*wall(), CAMERA, pose())
    path = tmp_path_factory.mktemp("kept") / "map.npz"
    map.save(path, [(1, np.eye(4)), (2, np.eye(4))])
    with zipfile.ZipFile(path) as archive:
        return map, path, {entry[:-4]: archive.read(entry) for entry in archive.namelist()}


def refused(map, path, says="expected"):
    """Loading is refused in one line with the file's name, and changes nothing."""
    keys, frames = map.blocks.keys(map.blocks.slots()), map.frames
    with pytest.raises(MapError, match=says) as caught:
        map.load(path)
    line = str(caught.value)
    assert os.path.basename(path).split("\0")[0] in line and "\n" not in line and len(line) < 600
    np.testing.assert_array_equal(map.blocks.keys(map.blocks.slots()), keys)
    assert map.frames == frames


def rewritten(entries, path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, content in entries.items():
            archive.writestr(f"{entry}.npy", content)
    return path


@pytest.mark.parametrize("changes", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_a_file_claims_and_holds_is_checked(kept, tmp_path, changes):
    map, _, entries = kept
    entries = entries | {name: change(entries[name]) for name, change in changes.items()}
    refused(map, rewritten(entries, tmp_path / "odd.npz"))


def test_bits_that_flipped_are_refused_or_do_not_matter(kept, tmp_path):
    """Whatever bit it is, in the arrays or round them, packed or not; also encryption."""
    map, path, entries = kept
    rng = np.random.default_rng(0)
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        whole = rewritten(entries, tmp_path / "whole.npz", kind).read_bytes()
        ends = [*range(300), *range(len(whole) - 900, len(whole))]
        for place in [*rng.choice(ends, 40), *rng.integers(0, len(whole), 20)]:
            content = bytearray(whole)
            content[place] ^= 1 << int(rng.integers(8))
            path = tmp_path / "flipped.npz"
            path.write_bytes(content)
            try:
                map.load(path)
            except MapError as error:
                assert "flipped.npz" in str(error)
    refused(map, rewritten(entries, tmp_path / "packed.npz", zipfile.ZIP_DEFLATED), "a compressed")
    content = bytearray(rewritten(entries, tmp_path / "whole.npz").read_bytes())
    content[content.find(b"PK\1\2") + 8] |= 1
    (tmp_path / "secret.npz").write_bytes(content)
    refused(map, tmp_path / "secret.npz", "an encrypted")


def test_only_files_are_opened(kept, tmp_path):
    map = kept[0]
    os.mkfifo(tmp_path / "fifo.npz")
    held = os.open(tmp_path / "fifo.npz", os.O_RDWR)  # so that who opens it does not wait
    for path in (tmp_path / "fifo.npz", tmp_path, "/dev/zero"):
        refused(map, path, "expected a map file, got something else")
    os.close(held)
    refused(map, str(tmp_path / "nul\0.npz"), "expected a path")
