# SPDX-License-Identifier: Apache-2.0
"""A folder of Hugging Face's `transformers`, or the hub, → architecture and weights of stage one.

No code of the folder runs and no pickle is read. The hub is asked by ``hub:`` alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from .coarse import BUILDING, cleaned, colour, configuration, metric_range, quiet_transformers

__all__ = ["import_model"]

HYPERSIM, VKITTI2 = 886.81 / 768, 725.0087 / 375
NYU, KITTI = 518.86 / 480, 721.54 / 375
#: (model type, its farthest depth) → focal length of the camera of its training, in image heights:
#: Depth Anything V2's metric models saw Hypersim or Virtual KITTI 2, the others NYU or KITTI
FOCALS = {
    ("depth_anything", 20): HYPERSIM,
    ("depth_anything", 80): VKITTI2,
    ("glpn", 10): NYU,
    ("glpn", 80): KITTI,
    ("zoedepth", 10): NYU,
    ("zoedepth", 80): KITTI,
}
UNKNOWN_VIEW = 60.0  # degrees of width, where the camera of the training is not known
USUAL = (480, 640)  # the frame whose size after the model's own processing is our input size
PATTERNS = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


def import_model(source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model's folder → (architecture of stage one alone, weights of its stage one).

    ``source`` is ``hf:FOLDER`` or the folder, or ``hub:OWNER/NAME[@REVISION]``, which downloads.
    The architecture's ``stage_one_source`` says where it comes from and how its camera is known.
    """
    folder, origin = folder_of(source)
    content = read(folder, "config.json")
    config = configuration(content)
    low, high = metric_range(config)
    patch = getattr(config, "patch_size", None) or getattr(
        getattr(config, "backbone_config", None), "patch_size", 1
    )
    patch = patch if isinstance(patch, int) else 1
    asked = read(folder, "preprocessor_config.json")
    try:
        found = processing(asked, patch)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'preprocessor_config.json'}: {error}") from error
    size = found.pop("input_size")
    focal, known = focal_length(config.model_type, high, size)
    weights = weights_of(folder, config)
    spec = {
        "stage_one": {"name": "huggingface", "config": cleaned(content), **found},
        "stage_two": None,
        "settings": {
            "sparse_input": "none",
            "input_size": size,
            "refined_size": size,
            "focal": focal,
            "min_depth": low,
            "max_depth": high,
            "aligned": False,
        },
        "paper": f"Hugging Face: {config.model_type}",
        "stage_one_source": origin | {"focal": known, "files": checksums(folder)},
    }
    return spec, weights


def focal_length(kind: str, high: float, input_size: tuple[int, int]) -> tuple[float, str]:
    """Pixels at the input's size of the camera that a model was trained with, and whence known."""
    heights = FOCALS.get((kind, high))
    if heights is not None:
        return heights * input_size[0], f"the training data of {kind} to {high:g} m"
    focal = input_size[1] / 2 / math.tan(math.radians(UNKNOWN_VIEW / 2))
    return focal, f"not known, a view {UNKNOWN_VIEW:g}° wide is assumed"


def processing(content: dict[str, Any], patch: int) -> dict[str, Any]:
    """Mean, std, multiple and input size (h, w) of a preprocessor_config.json's content.

    The size is what the model's own processor makes of a 480×640 image: "scaled as little as
    possible" where the ratio is kept, to multiples of ``ensure_multiple_of``.
    """
    mean, std = content.get("image_mean"), content.get("image_std")
    if not content.get("do_normalize", mean is not None):
        mean, std = 0.0, 1.0
    factor = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1.0
    if not (isinstance(factor, int | float) and factor > 0):
        raise ValueError(f"rescale_factor: expected a positive number, got {factor!r}")
    mean, std = (
        [v / (255 * factor) for v in colour(*of).tolist()]
        for of in (("image_mean", mean), ("image_std", std))
    )
    steps = [content.get("ensure_multiple_of"), content.get("size_divisor"), patch]
    multiple = math.lcm(*(int(step) for step in steps if step and step >= 1))
    size = content.get("size") if content.get("do_resize", True) else None
    if isinstance(size, dict):
        size = size.get("shortest_edge") or [size.get("height"), size.get("width")]
    wanted = [size] * 2 if isinstance(size, int) else size or USUAL
    if len(wanted) != 2 or not all(isinstance(side, int) and side > 0 for side in wanted):
        raise ValueError(f"size: expected height and width, got {content.get('size')!r}")
    scale = [want / have for want, have in zip(wanted, USUAL, strict=True)]
    if content.get("keep_aspect_ratio"):
        scale = [min(scale, key=lambda value: abs(1 - value))] * 2
    sides = [have * by / multiple for have, by in zip(USUAL, scale, strict=True)]
    return {
        "mean": mean,
        "std": std,
        "multiple": multiple,
        "input_size": [max(1, round(side)) * multiple for side in sides],
    }


def folder_of(source: str) -> tuple[Path, dict[str, str]]:
    """The folder of a model, fetched from the hub where that is asked for; and its origin."""
    if not source.startswith("hub:"):
        folder = Path(source.removeprefix("hf:"))
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"hf: expected a folder with config.json, got {str(folder)!r}; "
                "hub:OWNER/NAME downloads a model"
            )
        return folder, {"folder": folder.resolve().name}
    name, _, revision = source.removeprefix("hub:").partition("@")
    quiet_transformers()
    import huggingface_hub

    try:
        path = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=list(PATTERNS)
        )
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"hub: expected a model to download, got {name!r}: {text}") from error
    return Path(path), {"hub": name, "revision": Path(path).name}


def read(folder: Path, name: str) -> dict[str, Any]:
    """One of a folder's JSON files."""
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder}: expected the files of save_pretrained, got no {name}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(content).__name__}")
    return content


def checksums(folder: Path) -> dict[str, str]:
    """Start of the SHA-256 of every weights file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(folder.glob("*.safetensors"))
    }


def weights_of(folder: Path, config: Any) -> dict[str, Tensor]:
    """The state dict of ``HuggingFaceDepth`` from a folder's safetensors, complete and finite."""
    if not any((folder / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        other = sorted(path.name for path in folder.glob("*.[bp][it]*"))
        raise ValueError(
            f"{folder}: expected model.safetensors (pickles are not read), "
            f"got {', '.join(other) or 'no weights'}"
        )
    auto = quiet_transformers().AutoModelForDepthEstimation
    from safetensors import SafetensorError

    try:
        model, said = auto.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    except (SafetensorError, OSError, *BUILDING) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{folder}: expected weights of its config, got {text}") from error
    # Names with their shapes; names alone in releases before 5.
    reshaped = [key if isinstance(key, str) else key[0] for key in said["mismatched_keys"]]
    wrong = {"missing": sorted(said["missing_keys"]), "of another shape": sorted(reshaped)}
    for what, names in wrong.items():
        if names:
            raise ValueError(
                f"{folder}: expected all weights of its config, got {len(names)} {what} "
                f"({', '.join(names[:10])})"
            )
    state = {f"model.{name}": value for name, value in model.float().state_dict().items()}
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{folder}: expected finite weights, got NaN or infinity in {name}")
    return state
