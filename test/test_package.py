# SPDX-License-Identifier: Apache-2.0
"""The package as it is built and installed: setup.py, package.xml, entry points, shipped files."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import chain
from pathlib import Path

import pytest
import setuptools

import depth_two_stage

ROOT = Path(__file__).resolve().parent.parent
NAME = "depth_two_stage"
PACKAGE = ROOT / NAME

# Under what name the distribution is declared that an import comes from, where the two differ.
INSTALLED_AS = {
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "apsw": "rosbags",  # what rosbags reads sqlite3 with
    "backports": "rosbags",  # what rosbags reads zstd with
}
# What comes with a ROS distribution and never as a wheel.
ROS_ONLY = {"ament_index_python", "cv_bridge", "launch", "launch_ros", "tf2_msgs", "tf2_ros"}
# Messages that the declared ROS wheels bring with them.
ROS_BROUGHT = {"builtin_interfaces", "rcl_interfaces", "rosgraph_msgs", "std_msgs"}


def canonical(requirement: str) -> str:
    """The name in a requirement, as package indexes compare names."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement).group(0)
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(declared: dict) -> list[str]:
    """Names of every Python dependency, required and extra, as often as they are declared."""
    required = chain(declared["install_requires"], *declared["extras_require"].values())
    return [canonical(requirement) for requirement in required]


@pytest.fixture(scope="module")
def declared() -> dict:
    """What setup.py hands to setuptools."""
    captured: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **given: captured.update(given))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return captured


@pytest.fixture(scope="module")
def manifest() -> ET.Element:
    """The root of package.xml."""
    return ET.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a clone holds, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source") / NAME
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "out", "runs", "build")
    copy.mkdir()
    for name in ("setup.py", "setup.cfg", "package.xml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (NAME, "config", "launch", "rviz", "resource"):
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    return copy


def files_under(folder: Path) -> set[str]:
    """Relative names of the files that are shipped from a folder."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def assert_complete(prefix: Path, source: Path) -> None:
    """Every shipped file lies under the prefix, and the installed package finds share/ itself."""
    site = next(prefix.glob("**/site-packages"), None) or next(prefix.glob("**/dist-packages"))
    assert files_under(source / NAME) - files_under(site / NAME) == set()
    share = prefix / "share" / NAME
    shipped = {name for name in files_under(source) if name.split("/")[0] in ("config", "launch")}
    shipped |= {name for name in files_under(source) if name.startswith(("rviz/", "resource/bags"))}
    assert shipped and shipped | {"package.xml"} == files_under(share)
    assert (prefix / "share/ament_index/resource_index/packages" / NAME).is_file()
    found = subprocess.run(
        [sys.executable, "-c", f"import {NAME}; print({NAME}.share_path('config/default.yaml'))"],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=prefix,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == share.resolve() / "config" / "default.yaml"


def test_name_version_licence_and_maintainer_agree(declared, manifest):
    assert manifest.get("format") == "3"
    assert manifest.findtext("export/build_type") == "ament_python"
    assert declared["name"] == manifest.findtext("name") == NAME
    version = depth_two_stage.__version__
    assert declared["version"] == manifest.findtext("version") == version
    assert declared["license"] == manifest.findtext("license") == "Apache-2.0"
    assert declared["description"] == manifest.findtext("description")
    email = manifest.find("maintainer").get("email")
    assert email == declared["maintainer_email"]
    # What ROS tools accept; with an address that they do not, colcon builds plain Python.
    assert re.fullmatch(
        r"[-a-zA-Z0-9_%+]+(\.[-a-zA-Z0-9_%+]+)*@[-a-zA-Z0-9]+(\.[a-zA-Z0-9-]+)+", email
    )


def test_every_dependency_is_declared_once(declared, manifest):
    names = distributions(declared)
    assert len(names) == len(set(names))
    keys = [entry.text for entry in manifest if entry.tag.endswith("depend")]
    assert len(keys) == len(set(keys))
    for file in sorted((ROOT / "constraints").glob("*.txt")):
        lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
        pinned = {canonical(line) for line in lines}
        assert pinned and pinned <= set(names), f"{file.name} pins what setup.py does not declare"


def test_everything_imported_is_declared(declared, manifest):
    names = set(distributions(declared))
    keys = {entry.text for entry in manifest if entry.tag.endswith("depend")}
    missing = set()
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            for module in {name.split(".")[0] for name in modules}:
                if module in sys.stdlib_module_names | {NAME, "compression"}:
                    continue
                is_ros = module in keys and (f"ros-kilted-{canonical(module)}" in names)
                is_ros |= module in keys & (ROS_ONLY | ROS_BROUGHT)
                is_ros |= module == "builtin_interfaces"  # part of every message
                if not is_ros and canonical(INSTALLED_AS.get(module, module)) not in names:
                    missing.add(f"{path.relative_to(ROOT)}: {module}")
    assert missing == set()


def test_nothing_is_younger_than_the_oldest_python(declared):
    """CI has one Python; what a younger one brought would fail on Ubuntu 22.04 alone."""
    oldest = declared["python_requires"].removeprefix(">=")
    vermin = str(Path(sys.executable).with_name("vermin"))
    command = [vermin, f"-t={oldest}-", "--violations", "--no-tips"]
    guarded = ("compression", "compression.zstd")  # of 3.14, where the version is asked before
    command += [word for name in guarded for word in ("--exclude", name)]
    folders = [str(ROOT / name) for name in (NAME, "test", "launch", "setup.py")]
    done = subprocess.run([*command, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_entry_points_name_functions_that_are_there(declared):
    scripts = dict(line.split(" = ") for line in declared["entry_points"]["console_scripts"])
    assert set(scripts) == {"depth-two-stage", "depth_node", "mapping_node", "replay"}
    for target in scripts.values():
        module, function = target.split(":")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_executables_stand_beside_this_python_or_in_the_workspace(declared):
    places = [Path(sys.executable).parent]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)  # what colcon installed
    places += [Path(prefix) / "lib" / "depth_two_stage" for prefix in prefixes if prefix]
    for line in declared["entry_points"]["console_scripts"]:
        name = line.split(" = ")[0]
        found = [place for place in places if os.access(place / name, os.X_OK)]
        assert found, f"{name}: expected it in some of {places}; run: make install"


def test_a_wheel_carries_everything(source, tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", tmp_path]
    subprocess.run([*wheel, source], check=True)
    (built,) = tmp_path.glob("*.whl")
    prefix = tmp_path / "prefix"
    install = [*pip, "install", "--no-deps", "--no-index", "--no-warn-script-location"]
    subprocess.run([*install, "--ignore-installed", "--prefix", prefix, built], check=True)
    assert_complete(prefix, source)
    executables = {path.name for path in prefix.rglob("bin/*")}
    assert executables == {"depth-two-stage", "depth_node", "mapping_node", "replay"}


def test_an_ament_install_puts_executables_where_ros2_run_looks(source, tmp_path):
    """The command that colcon runs for a package of type ament_python."""
    prefix = tmp_path / "install"
    build = ["setup.py", "-q", "build", "--build-base", tmp_path / "build"]
    install = ["install", "--prefix", prefix, "--single-version-externally-managed"]
    record = ["--record", tmp_path / "install.log"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *build, *install, *record],
        cwd=source,
        env=os.environ | {"DEB_PYTHON_INSTALL_LAYOUT": "deb"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_complete(prefix, source)
    for name in ("depth-two-stage", "depth_node", "mapping_node", "replay"):
        assert os.access(prefix / "lib" / NAME / name, os.X_OK)


def test_every_source_file_states_its_licence():
    sources = [ROOT / "setup.py", *PACKAGE.rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    sources += [*(ROOT / "test").rglob("*.py"), *(ROOT / ".ci").iterdir(), ROOT / "Makefile"]
    for path in sources:
        head = path.read_text(encoding="utf-8").splitlines()[:2]
        assert "# SPDX-License-Identifier: Apache-2.0" in head, path.relative_to(ROOT)


def test_shipped_files_keep_their_sizes():
    megabyte = 1e6
    weights = {path.name: path.stat().st_size for path in PACKAGE.rglob("*.safetensors")}
    assert all(size <= 15 * megabyte for size in weights.values()), weights
    assert sum(weights.values()) <= 30 * megabyte, weights
    bags = [path for path in (ROOT / "resource" / "bags").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in bags) <= 10 * megabyte


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_sets_up_once(tmp_path):
    """Without the stamp `make test` installs; with it, it does not, so no network is needed."""
    make = ["make", "-n", "test", f"VENV={tmp_path}"]

    def says(**environment: str) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AMENT_", "MAKE"))}
        done = subprocess.run(
            make, cwd=ROOT, env=env | environment, capture_output=True, text=True, check=True
        )
        assert "pytest" in done.stdout
        return done.stdout

    assert f".ci/install {tmp_path}" in says()
    (tmp_path / ".installed-wheels").touch()
    assert ".ci/install" not in says()
    assert ".ci/install" in says(AMENT_PREFIX_PATH="/opt/ros/jazzy", ROS_DISTRO="jazzy")
