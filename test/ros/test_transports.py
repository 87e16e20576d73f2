# SPDX-License-Identifier: Apache-2.0
"""Images between processes under config/fastdds.xml, against cameras that do not have it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from depth_two_stage import share_path
from depth_two_stage.ros.transports import HUMBLE_VARIABLE, VARIABLE, use_profile

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

FRAMES = 45
SEGMENT = 32 * 2**20  # bytes of shared memory, as config/fastdds.xml says
UDP_ONLY = """<?xml version="1.0"?>
<dds xmlns="http://www.eprosima.com"><profiles>
<transport_descriptors><transport_descriptor>
<transport_id>udp</transport_id><type>UDPv4</type>
</transport_descriptor></transport_descriptors>
<participant profile_name="camera" is_default_profile="true"><rtps>
<userTransports><transport_id>udp</transport_id></userTransports>
<useBuiltinTransports>false</useBuiltinTransports>
</rtps></participant>
</profiles></dds>
"""
QOS = """
import array, sys, time, zlib
import rclpy
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
count = int(sys.argv[1])
qos = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=count, reliability=ReliabilityPolicy.RELIABLE
)
rclpy.init()
"""
# 640x480 rgb8 at 30 Hz; the header's frame is the checksum of the data.
CAMERA = (
    QOS
    + """
import numpy as np
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "image", qos)
deadline = time.monotonic() + 90
while not publisher.get_subscription_count() and time.monotonic() < deadline:
    time.sleep(0.05)
time.sleep(0.5)  # the subscription has heard of us too
for index in range(count):
    data = np.random.default_rng(index).bytes(640 * 480 * 3)
    message = Image(height=480, width=640, encoding="rgb8", step=640 * 3)
    message.header.frame_id = str(zlib.crc32(data))
    message.header.stamp.sec = index
    message.data = array.array("B", data)
    publisher.publish(message)
    time.sleep(1 / 30)
while rclpy.ok():  # what is asked for is sent again until the signal at the end
    time.sleep(0.1)
"""
)
OURS = (
    QOS
    + """
import os
node = rclpy.create_node("ours")
whole = set()
def receive(message):
    if message.header.frame_id == str(zlib.crc32(message.data)):
        whole.add(message.header.stamp.sec)
subscription = node.create_subscription(Image, "image", receive, qos)
deadline = time.monotonic() + 120
while len(whole) < count and time.monotonic() < deadline:
    rclpy.spin_once(node, timeout_sec=0.2)
mine = [line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm/fast" in line]
sizes = [os.path.getsize(path) for path in set(mine) if os.path.exists(path)]
print("RESULT", len(whole), max(sizes, default=0), flush=True)
rclpy.shutdown()
"""
)


def environment(domain: int) -> dict[str, str]:
    users = (VARIABLE, HUMBLE_VARIABLE, "FASTDDS_BUILTIN_TRANSPORTS")
    kept = {name: value for name, value in os.environ.items() if name not in users}
    return kept | {"ROS_DOMAIN_ID": str(domain)}


def watched(camera_environment: dict[str, str], domain: int) -> tuple[int, int, str]:
    """Whole frames received by our side, bytes of its largest shared segment, its stderr."""
    ours = environment(domain)
    use_profile(ours)
    camera = subprocess.Popen([sys.executable, "-c", CAMERA, str(FRAMES)], env=camera_environment)
    try:
        done = subprocess.run(
            [sys.executable, "-c", OURS, str(FRAMES)],
            env=ours,
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        camera.terminate()
        camera.wait(60)
    found = re.search(r"RESULT (\d+) (\d+)", done.stdout)
    assert found, done.stderr
    return int(found[1]), int(found[2]), done.stderr


@pytest.mark.parametrize("camera", ["default", "udp_only", "profile"])
def test_every_frame_of_a_reliable_camera_arrives_whole(
    camera: str, tmp_path: Path, ros_domain: int
) -> None:
    theirs = environment(ros_domain)
    if camera == "udp_only":
        profile = tmp_path / "udp.xml"
        profile.write_text(UDP_ONLY, encoding="utf-8")
        theirs |= {VARIABLE: str(profile), HUMBLE_VARIABLE: str(profile)}
    elif camera == "profile":
        use_profile(theirs)
    # Docker's /dev/shm has 64 MB; without room Fast DDS goes on with UDP.
    room = shutil.disk_usage("/dev/shm").free > 2.5 * SEGMENT
    received, segment, errors = watched(theirs, ros_domain)
    assert received == FRAMES
    assert segment >= SEGMENT or not room, "our side does not run with config/fastdds.xml"
    assert "XMLPARSER" not in errors


def test_our_profile_is_used_unless_the_user_has_one() -> None:
    chosen: dict[str, str] = {"ROS_DISTRO": "kilted"}
    use_profile(chosen)
    assert chosen == {"ROS_DISTRO": "kilted", VARIABLE: str(share_path("config/fastdds.xml"))}
    old: dict[str, str] = {"ROS_DISTRO": "humble"}
    use_profile(old)
    assert old[HUMBLE_VARIABLE] == str(share_path("config/fastdds.xml"))
    assert VARIABLE not in old
    for name in (VARIABLE, HUMBLE_VARIABLE):
        users = {name: "/home/robot/mine.xml"}
        use_profile(users)
        assert users == {name: "/home/robot/mine.xml"}
