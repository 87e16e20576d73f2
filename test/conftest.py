# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share: recordings, and a ROS domain of the test's own."""

import os
import signal
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORDINGS = ROOT.parent / "shared" / "data"
# Beside another worker of the same run each has one core.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
THREADS = 1 if WORKER else min(2, os.cpu_count() or 1)

# Where the suite runs in the background of a shell, SIGINT is ignored, by child processes too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup, which children would inherit
    signal.signal(signal.SIGHUP, lambda *_: None)
# Before torch or Open3D start their pools, here and in every child process.
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
# Nothing that a test says over DDS leaves this machine (Humble knows only the older name).
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"


def _domains():
    """Domain numbers that differ between processes running at the same time on this machine."""
    start, count = os.getpid() % 100, 100
    first = 1
    if WORKER:  # a range of its own: workers begin at the same moment
        first, count = 1 + 20 * (int(WORKER.removeprefix("gw")) % 5), 20
    while True:
        for offset in range(count):
            yield first + (start + offset) % count


_DOMAINS = _domains()


def _is_free(domain: int) -> bool:
    """Whether no DDS participant of this machine holds the first unicast port of the domain."""
    first_unicast_port = 7400 + 250 * domain + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", first_unicast_port))
        except OSError:
            return False
    return True


def _free_domain() -> int:
    for _ in range(100):
        domain = next(_DOMAINS)
        if _is_free(domain):
            return domain
    raise RuntimeError("ros_domain: expected a free domain among 1..100, got none")


# What starts a node without asking for a domain of its own talks on this run's.
os.environ["ROS_DOMAIN_ID"] = str(_free_domain())


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of the real recordings, ../shared/data beside the checkout; skips where it is not."""
    if not RECORDINGS.is_dir():
        pytest.skip("the real recordings (../shared/data beside the checkout) are not here")
    return RECORDINGS


@pytest.fixture(scope="session")
def val(recordings):
    """The 95 images of `nyu/val`."""
    from depth_two_stage.datasets import open_dataset

    return open_dataset("nyu", recordings / "nyu", "val")


@pytest.fixture(scope="session")
def estimator():
    """The shipped weights in torch, fp32, on one thread; what a test changes it changes back."""
    from depth_two_stage.estimator import DepthEstimator

    return DepthEstimator("default", engine="torch", device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="session")
def free_domain():
    """A function that gives a ROS domain that nobody on this machine uses."""
    return _free_domain


@pytest.fixture
def ros_domain() -> int:
    """A ROS domain that nobody on this machine uses."""
    return _free_domain()


@pytest.fixture
def ros_env(ros_domain, monkeypatch) -> dict[str, str]:
    """Environment for child processes, and for this one: a domain of its own, this machine only."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain))
    return dict(os.environ)
