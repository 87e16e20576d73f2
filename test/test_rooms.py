# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the rooms of the package, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "depth_two_stage"

# From the bottom upwards; a module imports its own floor and those below.
# A new module gets its floor here.
FLOORS = (
    # NumPy and OpenCV alone.
    "atomic camera clouds config dense_scan encodings framing interpolation laser_scan mesh_picture"
    " messages morphology naming occupancy pictures ply point_graph poses reconstruction"
    " scale_filter unfamiliar weighting",
    # Files and recordings, the map and the camera's motion.
    "datasets files gating kept_frames loop_closure loop_search map_file map_formats meshing"
    " meshing_process occupancy_mapping odometry places pose_graph protocols surfel_frames"
    " surfel_index surfel_store surfels tracking trajectories tsdf tsdf_blocks tsdf_fusion"
    " tsdf_views",
    # Networks and what they are judged by.
    "adversarial_losses anchoring boundaries checkpoints confidence consistency losses metrics"
    " depth_filter depth_prior image_registration networks outlier_filter recipes runtimes"
    " scan_band",
    # Arrays in, arrays out; and what measures that.
    "benchmark calibration depth_scores doubt estimator evaluation evaluation_tables kidnapping"
    " map_evaluation map_keeping prediction slam slam_benchmark tables training training_data"
    " strange_colours training_filter training_outliers training_plan training_prior"
    " training_registration training_stages training_state",
    # What trains and measures many.
    "comparison",
    # What a user starts.
    "cli commands ros",
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}

ROS_MODULES = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "launch",
    "launch_ros",
    "message_filters",
    "rcl_interfaces",
    "rclpy",
    "ros2cli",
    "rosbag2_py",
    "tf2_ros",
}
NAMELESS = {"util", "utils", "helper", "helpers", "common", "misc"}
# Rooms made of torch: nobody enters them without needing it.
TORCH_ROOMS = {
    "adversarial_losses",
    "comparison",
    "losses",
    "networks",
    "strange_colours",
    "training",
    "training_data",
    "training_filter",
    "training_outliers",
    "training_prior",
    "training_registration",
    "training_stages",
    "training_state",
}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def is_ros(module: str) -> bool:
    """Whether a top-level module comes with ROS: rclpy, launch, TF or a message package."""
    return module in ROS_MODULES or module.endswith(("_msgs", "_srvs"))


def dotted(path: Path) -> list[str]:
    """The parts of the package that hold this file: a/b/__init__.py and a/b.py are both a.b."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, tree: ast.AST) -> list[tuple[int, str]]:
    """Every (line, absolute module name) that the nodes of a tree import, wherever it stands."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path)[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` and `from depth_two_stage import x` name the module x itself.
            names = [alias.name for alias in node.names] if module == PACKAGE.name else [""]
            found += [(node.lineno, f"{module}.{name}".rstrip(".")) for name in names]
    return found


def at_module_level(tree: ast.Module) -> ast.Module:
    """The tree without function bodies and without what only type checkers read."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Strip().visit(tree)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room(path: Path) -> str:
    """The room of a file: the first part under the package; '' is the package itself."""
    parts = dotted(path)
    return parts[1] if len(parts) > 1 else ""


def report(findings: list[str]) -> str:
    return "\n" + "\n".join(findings)


def test_every_module_has_a_floor_and_every_floor_its_modules():
    rooms = {room(path) for path in SOURCES} - {""}
    assert rooms - set(FLOOR_OF) == set(), "name the floor of these modules in FLOORS"
    assert set(FLOOR_OF) - rooms == set(), "FLOORS names modules that are not there"


def test_imports_go_downwards():
    findings = []
    for path in SOURCES:
        for line, module in imports(path, parse(path)):
            parts = module.split(".")
            if parts[0] != PACKAGE.name or len(parts) < 2 or room(path) == "":
                continue
            target = parts[1]
            if FLOOR_OF.get(target, -1) > FLOOR_OF[room(path)]:
                findings.append(f"{path.relative_to(ROOT)}:{line}: {room(path)} imports {target}")
    assert not findings, report(findings)


def test_rooms_of_one_floor_do_not_import_in_a_circle():
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        targets = graph.setdefault(room(path), set())
        for _, module in imports(path, parse(path)):
            parts = module.split(".")
            if parts[0] == PACKAGE.name and len(parts) > 1 and parts[1] in FLOOR_OF:
                targets.add(parts[1])
        targets.discard(room(path))
    done: set[str] = set()

    def circle_from(name: str, above: tuple[str, ...]) -> tuple[str, ...]:
        if name in above:
            return (*above[above.index(name) :], name)
        if name in done:
            return ()
        for target in sorted(graph.get(name, ())):
            found = circle_from(target, (*above, name))
            if found:
                return found
        done.add(name)
        return ()

    for name in sorted(graph):
        assert circle_from(name, ()) == ()


def test_only_ros_imports_ros():
    findings = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in SOURCES
        if room(path) != "ros"
        for line, module in imports(path, parse(path))
        if is_ros(module.split(".")[0])
    ]
    assert not findings, report(findings)


@pytest.mark.parametrize(
    "heavy",
    ["torch", "open3d", "openvino", "onnx", "onnxruntime", "transformers", "huggingface_hub"],
)
def test_heavy_packages_are_imported_where_they_are_used(heavy):
    allowed = TORCH_ROOMS if heavy == "torch" else set()
    findings = [
        f"{path.relative_to(ROOT)}:{line}: {module} at module level"
        for path in SOURCES
        if room(path) not in allowed
        for line, module in imports(path, at_module_level(parse(path)))
        if module.split(".")[0] == heavy
    ]
    assert not findings, report(findings)


def test_starting_and_decoding_load_neither_torch_nor_open3d_nor_ros():
    modules = ("cli", "config", "camera", "messages", "datasets", "files")
    code = (
        "import sys\n"
        + "\n".join(f"import depth_two_stage.{name}" for name in modules)
        + "\nprint([n for n in ('torch', 'open3d', 'openvino', 'rclpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_no_room_without_a_name():
    parts = {part.lower() for path in SOURCES for part in dotted(path)}
    assert parts & NAMELESS == set()


def test_no_file_is_long():
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
    }
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}


def test_errors_are_caught_by_name_or_passed_on():
    findings = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if caught in ("everything", "Exception", "BaseException") and not passed_on:
                findings.append(f"{path.relative_to(ROOT)}:{node.lineno}: except {caught}")
    assert not findings, report(findings)


def test_the_reader_of_imports_sees_relative_nested_and_guarded_ones():
    path = PACKAGE / "ros" / "example.py"
    tree = ast.parse(
        "from __future__ import annotations\n"
        "from . import build\n"
        "from .. import camera\n"
        "from ..networks.inputs import assemble\n"
        "if TYPE_CHECKING:\n    import open3d\n"
        "def f():\n    import torch.nn\n"
    )
    assert [module for _, module in imports(path, tree)] == [
        "__future__",
        "depth_two_stage.ros",
        "depth_two_stage.camera",
        "depth_two_stage.networks.inputs",
        "open3d",
        "torch.nn",
    ]
    assert [module for _, module in imports(path, at_module_level(tree))][-1] == (
        "depth_two_stage.networks.inputs"
    )
