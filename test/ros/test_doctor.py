# SPDX-License-Identifier: Apache-2.0
"""The missing link is named, by depth_node's watchdog and by the doctor in the same words."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

import rclpy
import rig
import sensors
from rig import Process, Rig
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from sensors import TestCamera

from depth_two_stage.ros import build, doctor
from depth_two_stage.ros.camera_check import examine_camera
from depth_two_stage.ros.doctor import Check, content

PERIOD = "1.0"


@pytest.fixture(scope="module")
def impatient(tiny, free_domain, tmp_path_factory):
    """A depth_node whose watchdog barks after a second, and the other side of its topics."""
    domain = free_domain()
    values = rig.parameters(tiny, **{"watchdog.period": PERIOD})
    folder = tmp_path_factory.mktemp("log")
    process = Process("depth_two_stage.ros.depth_node", folder, domain, "--ros-args", *values)
    other = Rig(domain)
    yield SimpleNamespace(process=process, rig=other, domain=domain)
    process.end()
    other.close()


@pytest.fixture
def examine(impatient, monkeypatch):
    """Runs the doctor beside the node; {name: Check}."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(impatient.domain))

    def run(seconds, **options):
        return {check.name: check for check in examine_camera(seconds, [], **options)}

    return run


def barks(node, line: str, while_doing=lambda: None) -> None:
    """The node comes to say the line while something is done ten times a second."""
    said = node.rig.repeat(while_doing, lambda: line in node.process.text())
    assert said, node.process.text()


def both_say(node, examine, line: str) -> None:
    """The watchdog's log line and the doctor's table hold the same words."""
    barks(node, line)
    warning = next(text for text in node.process.text().splitlines() if line in text)
    assert "no output for" in warning
    for seconds in (1.5, 5.0, 15.0, 45.0):  # a new participant needs a while to discover the others
        check = examine(seconds)["camera"]
        if line in check.message:
            break
    assert line in check.message
    assert not check.ok
    assert node.rig.until(lambda: node.rig.status and line in node.rig.status.message)


def test_no_publisher(impatient, examine):
    both_say(impatient, examine, "image: no publisher on /image or /image/compressed")
    elsewhere = impatient.rig.publisher(Image, "/head/image_raw")
    both_say(impatient, examine, "images are on /head/image_raw: remap")
    impatient.rig.node.destroy_publisher(elsewhere)


def test_wrong_type(impatient, examine):
    wrong = impatient.rig.publisher(CompressedImage, "image")
    both_say(impatient, examine, "image: expected Image on /image, rig publishes")
    impatient.rig.node.destroy_publisher(wrong)


def test_silent_publisher(impatient, examine):
    silent = impatient.rig.publisher(Image, "image")
    line = "image: nothing arrives on /image although rig offers it"
    both_say(impatient, examine, line)
    text = impatient.process.text()
    assert "FASTDDS_BUILTIN_TRANSPORTS" in text[text.index(line) :].splitlines()[0]
    impatient.rig.node.destroy_publisher(silent)


def test_no_camera_info_then_stamps_that_differ(impatient):
    images = impatient.rig.publisher(Image, "image")

    def send_image() -> int:
        image, stamp = sensors.rgb_image(), impatient.rig.now()
        image.header.stamp = build.time(stamp)
        images.publish(image)
        return stamp

    barks(impatient, "camera_info: no publisher on /camera_info", send_image)
    infos = impatient.rig.publisher(CameraInfo, "camera_info")

    def send_pair() -> None:
        info = sensors.camera_info()
        info.header.stamp = build.time(send_image() - 5_000_000)
        infos.publish(info)

    line = "camera_info: expected a message on /camera_info with the image's stamp, the nearest is"
    barks(impatient, line, send_pair)
    impatient.rig.node.destroy_publisher(infos)
    impatient.rig.node.destroy_publisher(images)


def test_encoding_stamps_and_subscribers(impatient):
    camera = TestCamera(impatient.rig)
    camera.connect()
    impatient.rig.listen("depth/image_rect")

    def send_strange() -> None:
        image = sensors.rgb_image()
        image.encoding = "rgb99"
        camera.send(image=image)

    barks(impatient, "s: image: expected one of rgb8", send_strange)
    barks(impatient, "s: image: expected a stamp above 0, got 0", lambda: camera.send(stamp=0))
    impatient.rig.ignore()
    barks(impatient, "subscriber: nobody subscribes to an output", camera.send)
    camera.close()


def test_a_best_effort_camera_asked_to_be_reliable(impatient):
    assert impatient.rig.set_parameter("input.reliability", "reliable").successful
    camera = TestCamera(impatient.rig, reliable=False)
    line = "QoS: rig publishes /image best effort and input.reliability asks for reliable"
    barks(impatient, line, camera.send)
    assert impatient.rig.set_parameter("input.reliability", "auto").successful
    camera.reach("depth/image_rect")
    impatient.rig.ignore()
    camera.close()


def test_lidar_that_is_published_but_not_used(impatient):
    camera = TestCamera(impatient.rig)
    lidar = impatient.rig.publisher(PointCloud2, "lidar")
    impatient.rig.listen("depth/image_rect")

    def send_both() -> None:
        lidar.publish(sensors.cloud(sensors.wall(), impatient.rig.now() - 10**10))
        camera.send()

    line = "points: what arrives on /lidar is farther than lidar.max_age from the images in time"
    barks(impatient, line, send_both)
    impatient.rig.node.destroy_publisher(lidar)
    impatient.rig.ignore()
    camera.close()


def test_a_lidar_on_the_output_topic_is_noticed(impatient):
    wrong = impatient.rig.publisher(PointCloud2, "points")
    line = (
        "points: rig publishes on /points too, which is an output of this node: its input is lidar"
    )
    barks(impatient, line)
    impatient.rig.node.destroy_publisher(wrong)


def test_a_camera_that_works_is_described(impatient, examine):
    """The camera runs in a process of its own, because the doctor does not let this one spin."""
    code = (
        "import sys, time; sys.path[:0] = [sys.argv[1]]\n"
        "from rig import Rig; from sensors import TestCamera\n"
        "other = Rig(int(sys.argv[2]), name='camera_driver'); camera = TestCamera(other)\n"
        "while True: camera.send(); other.spin(0.1)\n"
    )
    here = str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", code, here, str(impatient.domain)])
    try:
        assert impatient.rig.until(lambda: impatient.rig.node.count_publishers("image") > 0)
        for seconds in (20.0, 60.0):  # a busy machine is discovered late
            checks = examine(seconds, required=True)
            if "depth_node" in checks:
                break
    finally:
        child.kill()
        child.wait()
    assert checks["camera"].ok, checks
    assert "80x60, focal length 70 px" in checks["camera"].message
    assert "depth_node" in checks


def test_a_required_camera_decides(free_domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    missing = examine_camera(0.5, [])
    assert content(missing)
    assert [check.state for check in missing] == ["warning"]
    required = examine_camera(0.5, [], required=True)
    assert not content(required)
    assert not rclpy.ok()


def test_the_command_writes_its_checks_and_its_exit_code_says_whether_all_is_well(tmp_path):
    command = [sys.executable, "-m", "depth_two_stage.cli", "doctor", "--seconds", "0"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "checks.json")], capture_output=True, text=True
    )
    report = json.loads((tmp_path / "checks.json").read_text())
    checks = {check["name"]: check for check in report["checks"]}
    for name in ("python", "ros", "rclpy, torch, open3d", "Fast DDS profile"):
        assert checks[name]["state"] == "ok", checks[name]
        assert f"{name}: " in done.stdout
    failed = [check for check in report["checks"] if check["state"] == "failed"]
    assert report["ok"] is (not failed)
    assert (done.returncode == 0) is report["ok"], done.stderr


def test_installation_checks_find_what_is_broken(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LIBRARIES", {"libnothing.so.1": "libnothing1"})
    (library,) = doctor._system_libraries()
    assert library.state == "failed"
    assert "apt install libnothing1" in library.message
    monkeypatch.setenv(doctor.VARIABLE, str(tmp_path / "none.xml"))
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    states = {check.name: check.state for check in doctor._transports()}
    assert states["Fast DDS profile"] == "failed"
    assert states["transports"] == "warning"
    ok, said = doctor._try("import os; os.abort()")
    assert (ok, said) == (False, "crashed with signal 6")


def test_content_looks_at_essential_checks_only():
    assert content([Check("a", True, ""), Check("b", False, "", essential=False)])
    assert not content([Check("a", False, "")])
