# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all; places that take none are refused beforehand."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.files import WriteError


def test_a_failing_body_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "map.npz"
    path.write_text("old")
    with pytest.raises(KeyError), files.atomic_write(path) as file:
        file.write(b"half of the new")
        raise KeyError("in the middle")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["map.npz"]


def test_the_name_appears_only_when_the_body_has_ended(tmp_path):
    path = tmp_path / "new" / "map.txt"
    with files.atomic_write(path, "w") as file:
        file.write("käse")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "käse"
    assert path.stat().st_mode & 0o077 == ~_umask() & 0o066


def _umask():
    value = os.umask(0)
    os.umask(value)
    return value


def test_atomic_path_keeps_the_suffix_for_libraries_that_write_by_it(tmp_path):
    with files.atomic_path(tmp_path / "a.npz") as temporary:
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path
        np.savez(temporary, x=np.arange(3))
    assert np.load(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]
    with pytest.raises(WriteError), files.atomic_path(tmp_path / "b.npz"):
        pass  # nothing was written under the temporary name
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_full_disk_is_one_clear_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "depth.png"
    files.write_image(path, np.zeros((4, 4, 3), np.uint8))
    old = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # a real short write
    try:
        with pytest.raises(WriteError) as caught:
            files.write_image(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(caught.value) == f"{path}: expected a writable file, got File too large"
    assert isinstance(caught.value, OSError) and caught.value.errno
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["depth.png"]


def test_a_pipe_is_written_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_json(pipe, {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    os.close(reader)
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("old.json")
    files.write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert files.read_json(tmp_path / "old.json") == {"a": 1}


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/x\.json: expected a writable file, got "):
        files.write_json(tmp_path / "file" / "x.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="folder: expected a file name, got a folder"):
        files.write_json(tmp_path / "folder", {})
    with pytest.raises(WriteError, match="expected a writable file, got "):
        files.write_json("/proc/no_such_place/x.json", {})


def test_killed_in_the_middle_of_writing_the_old_file_is_whole(tmp_path):
    path = tmp_path / "checkpoint.bin"
    path.write_bytes(b"old")
    code = (
        "import sys; from depth_two_stage.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as f:\n"
        "    f.write(b'new' * 100000); f.flush(); print('half', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(files.__file__).parents[1],
    )
    with child:
        assert child.stdout.readline() == b"half\n"
        child.kill()
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "folder", "says"),
    [
        ("new.json", False, None),
        ("new/deep/report.json", False, None),
        ("file.json", False, None),
        ("new", True, None),
        ("folder", True, None),
        ("folder", False, "expected a writable file, got a folder"),
        ("file.json", True, "expected a writable folder, got a file"),
        ("file.json/report.json", False, "expected a writable file, got Not a directory"),
        ("x" * 300, False, "expected a writable file, got File name too long"),
    ],
)
def test_what_could_not_be_written_is_refused_beforehand(tmp_path, name, folder, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.json").write_text("old")
    if says is None:
        files.check_writable(tmp_path / name, folder)
    else:
        with pytest.raises(files.WriteError, match=says):
            files.check_writable(tmp_path / name, folder)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file.json", "folder"]
    assert (tmp_path / "file.json").read_text() == "old"


def test_devices_and_places_where_no_file_can_be_made():
    files.check_writable(None)
    files.check_writable("/dev/stdout")
    with pytest.raises(files.WriteError, match=r"/proc/report\.json: expected a writable file"):
        files.check_writable("/proc/report.json")
