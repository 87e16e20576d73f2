# SPDX-License-Identifier: Apache-2.0
"""Stage one from outside: metric depth models of Hugging Face's `transformers`.

B concludes that the second stage improves other models' depth; this is the door for them. Imported
only when such a model is asked for; `transformers` is the extra ``huggingface``.

A model is a folder as `save_pretrained` writes it: ``config.json``, ``preprocessor_config.json``
and safetensors. Its configuration goes into the architecture and its tensors into the checkpoint,
so that our file alone rebuilds it, without a network. No code of the folder runs: only classes of
`transformers` itself, no pickle.

The image is resized by us (`framing`), not by the model's own image processor, which would need
Pillow or torchvision: OpenCV's filter is not Pillow's, and an image of another shape than the
input's is padded, not stretched. Where no resizing is needed the answers are the same. ZoeDepth's
reflected border and its averaging with the mirrored image are left out.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .inputs import RGB_MEAN, RGB_STD

__all__ = ["HuggingFaceDepth", "cleaned", "configuration", "metric_range", "quiet_transformers"]

#: model types whose answer is metres, and what says so
METRIC = ("depth_anything", "zoedepth", "glpn")
NAMED = (
    "Depth Anything V2 metric (indoor or outdoor), ZoeDepth of one data set (nyu or kitti) or GLPN"
)

#: what `transformers` raises while it builds a model of settings that do not go together
BUILDING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class HuggingFaceDepth(nn.Module):
    """A metric depth model: x (B, 3, h, w) of ``inputs.assemble`` → (B, 1, h', w') metres.

    ``config``: what stands in its config.json. ``mean`` and ``std``: its normalisation of colour in
    0…1, which takes the place of ours. A side that is no multiple of ``multiple`` px is resized to
    the nearest that is. Frozen: its parameters want no gradient and it stays in eval mode until
    they do.
    """

    frozen = True

    def __init__(
        self,
        config: dict[str, Any],
        mean: list[float],
        std: list[float],
        multiple: int = 1,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if in_channels != 3:
            raise ValueError(f"huggingface: expected sparse_input 'none', got {in_channels} inputs")
        if not isinstance(multiple, int) or multiple < 1:
            raise ValueError(f"huggingface: expected multiple of at least 1, got {multiple!r}")
        self.multiple = multiple
        made = configuration(config)
        metric_range(made)
        auto = quiet_transformers().AutoModelForDepthEstimation
        try:
            self.model = auto.from_config(made, trust_remote_code=False)
        except BUILDING as error:
            text = " ".join(str(error).split())
            raise ValueError(f"huggingface: expected settings that fit, got {text}") from error
        self.model.float().requires_grad_(False)
        theirs, theirs_std = colour("mean", mean), colour("std", std)
        if not (theirs_std > 0).all():
            raise ValueError(f"huggingface: expected positive std, got {std!r}")
        # ours: x = (rgb - RGB_MEAN) / RGB_STD; theirs: (rgb - mean) / std = x * gain + offset
        gain = torch.from_numpy(RGB_STD).double() / theirs_std
        offset = (torch.from_numpy(RGB_MEAN).double() - theirs) / theirs_std
        for name, value in (("gain", gain), ("offset", offset)):
            self.register_buffer(name, value.float().view(1, 3, 1, 1), persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> HuggingFaceDepth:
        """Training mode only where a parameter is trained: dropout would spoil a frozen one."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise as the model wants it, run it."""
        x = x * self.gain + self.offset
        size = [int(side) for side in x.shape[-2:]]  # numbers while it is traced too
        fits = [max(1, round(side / self.multiple)) * self.multiple for side in size]
        if fits != size:
            x = F.interpolate(x, fits, mode="bilinear", align_corners=False)
        return self.model(pixel_values=x, return_dict=True).predicted_depth[:, None]


def colour(name: str, values: Any) -> Tensor:
    """Three finite numbers (3,) float64, of one or three."""
    values = [values] * 3 if isinstance(values, int | float) else values
    if not (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    ):
        raise ValueError(f"huggingface: expected {name} of three numbers, got {values!r}")
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def quiet_transformers() -> ModuleType:
    """`transformers`, from here on without progress bars and remarks, or how to get it.

    Its remarks, also those while it is traced for an engine, speak of training and of image
    processors, which are not used here.
    """
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise ValueError(
            "huggingface: expected the package transformers "
            f"(pip install 'depth_two_stage[huggingface]'), got {error}"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


# --- What a configuration says --------------------------------------------------------------------


def configuration(content: Any) -> Any:
    """The `transformers` configuration of a config.json's content, without what runs or fetches."""
    if not isinstance(content, dict) or content.get("model_type") not in METRIC:
        kind = content.get("model_type") if isinstance(content, dict) else content
        raise ValueError(
            f"huggingface: expected a model of metric depth, {NAMED}, got model_type {kind!r}: "
            "relative depth has neither scale nor metres"
        )
    auto = quiet_transformers().AutoConfig
    from huggingface_hub import errors

    wrong = getattr(errors, "StrictDataclassError", ValueError)
    content = cleaned(content)
    kind = content.pop("model_type")
    try:
        return auto.for_model(kind, **content)
    except (wrong, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"huggingface: expected settings of {kind}, got {text}") from error


def cleaned(content: Any) -> Any:
    """A configuration without code, kernels, quantisation and backbones fetched by name."""
    if isinstance(content, list):
        return [cleaned(item) for item in content]
    if not isinstance(content, dict):
        return content
    kind = content.get("model_type")
    fetched = content.get("use_timm_backbone") or kind == "timm_backbone"
    if fetched or isinstance(content.get("backbone"), str):
        raise ValueError(
            "huggingface: expected a backbone described by backbone_config, got one fetched by "
            f"name ({content.get('backbone')!r})"
        )
    dropped = {
        "attn_implementation",
        "auto_map",
        "backbone",
        "backbone_kwargs",
        "dtype",
        "quantization_config",
        "torch_dtype",
        "transformers_version",
        "use_pretrained_backbone",
        "use_timm_backbone",
    }
    return {
        key: cleaned(value)
        for key, value in content.items()
        if key not in dropped and not key.startswith("_")
    }


def metric_range(config: Any) -> tuple[float, float]:
    """Nearest and farthest metres that a model can answer; one of relative depth is refused."""
    kind = config.model_type
    low, high = 0.0, getattr(config, "max_depth", None)
    if kind == "depth_anything" and config.depth_estimation_type != "metric":
        raise ValueError(
            f"huggingface: expected depth_estimation_type 'metric' ({NAMED}), "
            f"got {config.depth_estimation_type!r}: relative depth has neither scale nor metres"
        )
    if kind == "zoedepth":
        bins = config.bin_configurations
        if len(bins) != 1:
            raise ValueError(
                "huggingface: expected ZoeDepth of one data set, got bin_configurations of "
                f"{len(bins)}, between which it decides anew at each image"
            )
        low, high = bins[0].get("min_depth", 0.0), bins[0].get("max_depth")
    if not (isinstance(high, int | float) and 0 < high < math.inf):
        raise ValueError(f"huggingface: expected max_depth in metres, got {high!r}")
    # What is nearer than a hundredth of the range, at most 0.1 m, is no answer.
    return max(float(low), min(0.1, high / 100)), float(high)
