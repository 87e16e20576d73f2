# SPDX-License-Identifier: Apache-2.0
"""Packed data sets: what goes in comes out, in the same order and under the same hash."""

import json
import pickle
import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from trees import CAMERA, H, W, depth_map, make_folder

from depth_two_stage import cli, files, networks
from depth_two_stage.atomic import WriteError
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets.packed import Coding, Packing, write_pack

NAMES = ("a", "b", "c", "d", "e", "f")


def smooth(seed):
    noise = np.random.default_rng(seed).integers(0, 255, (H, W, 3), np.uint8)
    return cv2.GaussianBlur(noise, (9, 9), 3)


@pytest.fixture
def tree(tmp_path):
    """Six frames of PNG colour with holes in their depth, and a frame that was recorded invalid."""
    root = make_folder(tmp_path / "tree", NAMES)
    for seed, name in enumerate(NAMES):
        files.write_image(root / "rgb" / f"{name}.png", smooth(seed))
    return root


def packed(tmp_path, tree, coding=Coding(), split=None, **options):  # noqa: B008
    out = tmp_path / "pack"
    data = open_dataset("folder", tree)
    write_pack(out, [Packing("training", split, data)], coding, **options)
    return out, data, open_dataset("packed", out, split)


def test_frames_come_out_in_order_under_the_same_hash(tmp_path, tree):
    _, data, again = packed(tmp_path, tree)
    assert again.list_hash == data.list_hash and len(again) == 6 and again.names == list(NAMES)
    assert again.camera == data.camera
    for a, b in zip(data, again, strict=True):
        assert (a.name, a.stamp, a.camera) == (b.name, b.stamp, b.camera)
        assert np.array_equal(a.depth, b.depth)  # millimetres are kept to the bit
        assert np.abs(a.rgb.astype(int) - b.rgb).mean() < 2  # colour is coded: JPEG 95
    assert [sample.name for sample in again[1:4]] == ["b", "c", "d"]
    assert again[2:].list_hash == data[2:].list_hash
    moved = pickle.loads(pickle.dumps(again))
    assert np.array_equal(moved[3].rgb, again[3].rgb)


def test_a_pack_says_of_what_it_was_made_and_how(tmp_path, tree):
    _, data, again = packed(tmp_path, tree, Coding(40, 80, 500.0))
    assert again.source == {
        "dataset": "tree",
        "split": None,
        "list_hash": data.list_hash,
        "coding": {"width": 40, "quality": 80, "depth_scale": 500.0},
        "jpeg_files_unchanged": 0,
    }
    assert data.source is None


def test_wider_frames_are_reduced_with_their_camera(tmp_path, tree):
    _, data, again = packed(tmp_path, tree, Coding(width=32))
    assert again.camera == data.camera.resized(32, 24)
    sample, before = again[1], data[1]
    area = cv2.resize(before.rgb, (32, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(sample.rgb.astype(int) - area).mean() < 3
    # Depth is one of the four pixels', not their mean.
    blocks = before.depth.reshape(24, 2, 32, 2).transpose(0, 2, 1, 3).reshape(24, 32, 4)
    assert (sample.depth[..., None] == blocks).any(axis=2).all()


def test_jpeg_files_that_fit_go_in_unchanged(tmp_path, tree):
    for name in NAMES[:4]:
        (tree / "rgb" / f"{name}.png").unlink()
        files.write_image(tree / "rgb" / f"{name}.jpg", smooth(1))
    out, data, again = packed(tmp_path, tree)
    assert again.source["jpeg_files_unchanged"] == 4
    assert all(np.array_equal(data[i].rgb, again[i].rgb) for i in range(4))
    with zipfile.ZipFile(out / "training-1-of-1.zip") as part:
        assert part.read("000002.jpg") == (tree / "rgb" / "c.jpg").read_bytes()
        assert part.testzip() is None
        assert {info.compress_type for info in part.infolist()} == {zipfile.ZIP_STORED}
    # Where the image is reduced or rectified first, the file is not the sample's colour.
    shutil.rmtree(out)
    assert packed(tmp_path, tree, Coding(width=32))[2].source["jpeg_files_unchanged"] == 0
    shutil.rmtree(out)
    bent = CAMERA | {"distortion_plumb_bob": [-0.2, 0.05, 0, 0, 0]}
    (tree / "camera.json").write_text(json.dumps(bent))
    _, data, again = packed(tmp_path, tree)
    assert again.source["jpeg_files_unchanged"] == 0
    assert np.abs(data[0].rgb.astype(int) - again[0].rgb).mean() < 2


def test_parts_are_at_most_as_large_as_asked(tmp_path, tree):
    whole = sum(p.stat().st_size for p in packed(tmp_path, tree)[0].glob("*.zip"))
    shutil.rmtree(tmp_path / "pack")
    limit = whole // 3 + 1000
    out, data, again = packed(tmp_path, tree, part_bytes=limit)
    parts = sorted(out.glob("*.zip"))
    assert [p.name for p in parts] == [f"training-{i}-of-3.zip" for i in (1, 2, 3)]
    assert all(limit // 2 < p.stat().st_size <= limit for p in parts)
    assert all(np.array_equal(a.depth, b.depth) for a, b in zip(data, again, strict=True))
    shutil.rmtree(out)
    # To the byte: one less, and the last frame does not fit.
    one = packed(tmp_path, tree)[0] / "training-1-of-1.zip"
    size = one.stat().st_size
    shutil.rmtree(out)
    assert len(list(packed(tmp_path, tree, part_bytes=size)[0].glob("*.zip"))) == 1
    shutil.rmtree(out)
    assert len(list(packed(tmp_path, tree, part_bytes=size - 1)[0].glob("*.zip"))) == 2
    shutil.rmtree(out)
    with pytest.raises(DatasetError, match=r"part: expected at least \d+ bytes for a, got 1000"):
        packed(tmp_path, tree, part_bytes=1000)


def test_the_same_frames_give_the_same_bytes(tmp_path, tree):
    out, data, _ = packed(tmp_path, tree)
    write_pack(tmp_path / "again", [Packing("training", None, data)])
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_missing_and_truncated_parts_are_named(tmp_path, tree):
    out, _, again = packed(tmp_path, tree, part_bytes=12_000)
    parts = sorted(out.glob("*.zip"))
    assert len(parts) > 2
    content = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(
        DatasetError, match=rf"expected every part in {out}, got no {parts[1].name}"
    ):
        open_dataset("packed", out)
    parts[1].write_bytes(content[:-100])
    words = rf"{parts[1].name}: expected {len(content)} bytes, got {len(content) - 100}: truncated"
    with pytest.raises(DatasetError, match=words):
        open_dataset("packed", out)
    # As long as it was, with bytes of a frame changed: found when that frame is read.
    middle = len(content) // 3
    parts[1].write_bytes(content[:middle] + b"\0" * 50 + content[middle + 50 :])
    broken = open_dataset("packed", out)
    with pytest.raises(DatasetError, match=rf"{parts[1].name}: expected frame \w in it whole, got"):
        list(broken)
    parts[1].write_bytes(content)
    assert len(list(open_dataset("packed", out))) == 6
    shutil.rmtree(out)  # taken away after it was opened
    with pytest.raises(DatasetError, match=r"training-1-of-\d.zip: expected frame a in it whole"):
        again[0]


def test_an_index_of_something_else_is_refused(tmp_path, tree):
    out, _, _ = packed(tmp_path, tree)
    with pytest.raises(DatasetError, match="split: expected one of none, got 'train'"):
        open_dataset("packed", out, "train")
    with pytest.raises(DatasetError, match=r"pack\.json: expected a readable file"):
        open_dataset("packed", tree)
    index = json.loads((out / "pack.json").read_text())
    for change, words in (
        ({"format": "zip"}, "expected the format 'depth_two_stage pack 1', got 'zip'"),
        ({"sets": 3}, "expected what train --pack writes"),
        ({"sets": [{"split": None}]}, "expected what train --pack writes, got KeyError"),
    ):
        (out / "pack.json").write_text(json.dumps(index | change))
        with pytest.raises(DatasetError, match=words):
            open_dataset("packed", out)
    index["sets"][0]["frames"][2][0] = "z"
    (out / "pack.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match=r"pack\.json: expected frames of the list hash"):
        open_dataset("packed", out)


def test_nothing_is_there_before_all_of_it_and_nothing_is_replaced(tmp_path, tree):
    (tree / "depth" / "e.png").write_bytes((tree / "depth" / "e.png").read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"e.png: expected a whole image"):
        packed(tmp_path, tree, part_bytes=12_000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tree"]
    files.write_depth(tree / "depth" / "e.png", depth_map(4))
    (tmp_path / "pack").mkdir()  # an empty folder is no obstacle
    out, _, _ = packed(tmp_path, tree)
    before = sorted(p.name for p in out.iterdir())
    with pytest.raises(WriteError, match=r"pack: expected a new or an empty folder, got one with"):
        packed(tmp_path, tree)
    assert sorted(p.name for p in out.iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pack", "tree"]


def test_depth_that_does_not_fit_is_refused_and_frames_without_are_kept(tmp_path, tree):
    far = depth_map(0) * 20  # to 120 m
    files.write_depth(tree / "depth" / "c.png", far, 500.0)
    (tree / "camera.json").write_text(json.dumps(CAMERA | {"depth_scale": 500.0}))
    words = r"depth scale: expected at most 5\d\d units per metre for the 1\d\d.\d m of c, got 1000"
    with pytest.raises(DatasetError, match=words):
        packed(tmp_path, tree)
    with pytest.raises(
        DatasetError, match=r"depth scale: expected more than 0\.\d+ units per metre"
    ):
        packed(tmp_path, tree, Coding(depth_scale=0.4))
    _, data, again = packed(tmp_path, tree, Coding(depth_scale=200.0))
    error = np.abs(again[0].depth - data[0].depth)
    assert 0.001 < error.max() <= 0.0025 + 1e-5
    bare = open_dataset("packed", tmp_path / "pack")
    decode = bare.decode
    bare.decode = lambda index: replace(decode(index), depth=None, invalid_depth=7)
    write_pack(tmp_path / "bare", [Packing("training", None, bare)])
    sample = open_dataset("packed", tmp_path / "bare")[1]
    assert sample.depth is None and sample.invalid_depth == 7


def test_frames_of_several_cameras(tmp_path):
    rooms = open_dataset("rendered", "-", "frames:4,size:32x48,fov:50-90,lidar:0,path:anywhere")
    write_pack(tmp_path / "pack", [Packing("training", "rooms", rooms)])
    again = open_dataset("packed", tmp_path / "pack", "rooms")
    assert again.camera is None and again.list_hash == rooms.list_hash
    assert [s.camera for s in again] == [s.camera for s in rooms]
    assert np.abs(again[3].depth - rooms[3].depth).max() <= 0.0005 + 1e-6


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def nyu(tmp_path):
    """Five training frames and three to look at, in NYU's folders."""
    root = tmp_path / "nyu"
    for split, count in (("train", 5), ("val", 3)):
        for index in range(count):
            depth = np.full((48, 64), 1.0 + index, np.float32)
            files.write_image(root / split / "rgb" / f"{index:04d}.jpg", smooth(index))
            files.write_depth(root / split / "depth" / f"{index:04d}.png", depth)
    return root


def train(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "two-stage-rgbd-18", *map(str, arguments)])
    shown = capsys.readouterr()
    return left.value.code, shown.out, shown.err


def test_train_packs_what_it_would_train_on_and_trains_on_it(capsys, tmp_path, nyu):
    small = {"width": 1 / 16, "data.validation_limit": 2, "model": "fcrn18-rgb"}
    small |= {"input_size": "[57, 76]", "stage_one.batch": 4, "stage_one.epochs": 1}
    changes = [word for item in small.items() for word in ("-p", "{}={}".format(*item))]
    out = tmp_path / "pack"
    limit = ("-p", "data.limit=4")
    code, shown, err = train(capsys, "--root", nyu, "--pack", out, *changes, *limit)
    assert code == 0, err
    assert "training: 4 frames in 1 parts" in shown and "validation: 2 frames" in shown
    source = open_dataset("nyu", nyu, "train")[:4]
    assert source.list_hash in shown
    assert sorted(p.name for p in out.iterdir()) == [
        *("pack.json", "training-1-of-1.zip", "validation-1-of-1.zip")
    ]
    again = open_dataset("packed", out, "train")
    assert again.list_hash == source.list_hash and again.source["dataset"] == "nyu"
    assert open_dataset("packed", out, "val").names == ["val/0000", "val/0001"]
    # The same steps on both: the JPEG files went in as they are, and so did the millimetres.
    made = []
    for place in (("--root", nyu, *limit), ("--root", out, "-p", "data.dataset=packed")):
        folder = tmp_path / f"run{len(made)}"
        code, _, err = train(capsys, *place, *changes, "-o", folder, "--threads", 1)
        assert code == 0, err
        made.append(networks.read_checkpoint(networks.resolve(str(folder / "weights"))))
    plain, of_pack = made
    assert all(torch.equal(plain.tensors[name], of_pack.tensors[name]) for name in plain.tensors)
    facts, packed_facts = plain.facts, of_pack.facts
    assert facts["data_hash"] == packed_facts["data_hash"]
    assert packed_facts["source"] == again.source and "source" not in facts


def test_one_split_for_both_is_packed_once(capsys, tmp_path, nyu):
    both = ("-p", "data.validation_split=train", "-p", "data.limit=2", "-p")
    out = tmp_path / "pack"
    code, _, err = train(capsys, "--root", nyu, "--pack", out, *both, "data.validation_limit=4")
    assert code == 0, err
    assert len(open_dataset("packed", out, "train")) == 4
    assert not list(out.glob("validation*"))


def test_what_cannot_be_packed_is_one_line(capsys, tmp_path, nyu):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for arguments, words in (
        (("--pack", tmp_path / "full", "--root", nyu), "full: expected a new or an empty folder"),
        (("--pack", tmp_path / "x"), "data.root: expected the data set's folder, got none"),
        (("--pack", tmp_path / "full" / "file" / "x", "--root", nyu), "expected a writable folder"),
    ):
        code, _, err = train(capsys, *arguments)
        assert code == 1 and words in err and len(err.splitlines()) == 1
    mix = "[{dataset: folder, root: elsewhere, share: 0.2}, {dataset: rendered, share: 0.1}]"
    code, shown, _ = train(capsys, "--pack", tmp_path / "y", "--root", nyu, "-p", f"data.mix={mix}")
    assert code == 0 and "not in it: folder of data.mix" in shown and "rendered" not in shown
