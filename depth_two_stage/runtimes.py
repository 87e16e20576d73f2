# SPDX-License-Identifier: Apache-2.0
"""The engines that execute a network: torch (CUDA, CPU), OpenVINO and ONNX Runtime.

An engine takes x float32 (1, C, h, w) and returns (coarse, refined), float32 (H, W) metres each,
and of a network that predicts its own confidence the logit of that (`networks.TwoStage`).
`start` picks one, runs one frame through it and through torch in fp32, and falls back when they
disagree: a wrong engine must not pass unseen.
"""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from typing import Any

import numpy as np

__all__ = ["DEVICES", "ENGINES", "PRECISIONS", "TOLERANCE", "beside", "installed", "start"]

DEVICES = ("auto", "cuda", "cpu")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
#: median relative difference to torch in fp32 beyond which an engine is not used
TOLERANCE = 0.02
MAX_THREADS = 256  # as the parameter estimator.threads; torch dies of tens of thousands


class TorchEngine:
    """PyTorch itself, on CUDA or CPU; below fp32 by autocast."""

    name = "torch"

    def __init__(self, model, x: np.ndarray, device: str, precision: str, threads: int) -> None:
        import torch

        if precision == "auto":
            precision = "fp16" if device == "cuda" else "fp32"
        self.device, self.precision = device, precision
        if device == "cpu":
            torch.set_num_threads(threads)
        self.model = model.to(device).eval()
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run x (1, C, h, w) → coarse, refined (H, W) metres[, logit]."""
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not None),
        ):
            outputs = self.model(torch.from_numpy(x).to(self.device))
        return tuple(y[0, 0].float().cpu().numpy() for y in outputs)


class OpenVinoEngine:
    """OpenVINO on the CPU, converted from the torch module in memory, fixed shape."""

    name, device = "openvino", "cpu"

    def __init__(self, model, x: np.ndarray, device: str, precision: str, threads: int) -> None:
        import openvino
        import torch

        core = openvino.Core()
        if precision == "auto":  # AVX512-BF16 or AMX
            fast = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bf16" if fast else "fp32"
        self.precision = precision
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's and a plugged model's, of the tracer
            graph = openvino.convert_model(
                model.to("cpu").eval(),
                example_input=torch.from_numpy(x),
                input=[openvino.PartialShape(list(x.shape))],
            )
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads wait for their core while another process (the map) is on it: measured
            # beside one busy process on two cores, 1460 ms a frame pinned, 350 ms not.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        }
        compiled = core.compile_model(graph, "CPU", settings)
        self.outputs = range(len(compiled.outputs))
        self.request = compiled.create_infer_request()

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run x (1, C, h, w) → coarse, refined (H, W) metres[, logit]."""
        self.request.infer([x])  # the request's own buffers are reused: copy them out
        return tuple(self.request.get_output_tensor(i).data[0, 0].copy() for i in self.outputs)


class OnnxEngine:
    """ONNX Runtime on the CPU in fp32, exported from the torch module in memory."""

    name, device, precision = "onnxruntime", "cpu", "fp32"

    def __init__(self, model, x: np.ndarray, device: str, precision: str, threads: int) -> None:
        import onnxruntime
        import torch

        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's remarks about itself
            torch.onnx.export(
                model.to("cpu").eval(),
                (torch.from_numpy(x),),
                file,
                input_names=["x"],
                dynamo=False,
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            file.getvalue(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run x (1, C, h, w) → coarse, refined (H, W) metres[, logit]."""
        return tuple(y[0, 0] for y in self.session.run(None, {"x": x}))


#: engine by name, and what has to be installed for it
ENGINES = {"torch": TorchEngine, "openvino": OpenVinoEngine, "onnxruntime": OnnxEngine}
NEEDS = {"torch": ("torch",), "openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx")}
#: precisions that run on (engine, device)
RUNS = {
    ("torch", "cuda"): ("fp32", "fp16", "bf16"),
    ("torch", "cpu"): ("fp32", "bf16"),  # fp16 runs, but at 14 s a frame
    ("openvino", "cpu"): ("fp32", "bf16"),
    ("onnxruntime", "cpu"): ("fp32",),
}


def installed() -> list[str]:
    """Return the names of the engines whose packages are here, torch first."""
    return [n for n in ENGINES if all(importlib.util.find_spec(p) for p in NEEDS[n])]


def cores(threads: int) -> int:
    """Return how many threads to use: `threads`, or 0 for all available cores but one."""
    if not 0 <= threads <= MAX_THREADS:
        raise ValueError(f"threads: expected 0 (all cores but one) to {MAX_THREADS}, got {threads}")
    return threads or max(1, len(os.sched_getaffinity(0)) - 1)


def pick(engine: str, device: str, precision: str) -> tuple[str, str]:
    """Resolve engine and device of `auto`; what was asked by name and is not there is an error."""
    for name, value, known in (
        ("engine", engine, ("auto", *ENGINES)),
        ("device", device, DEVICES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    here = installed()
    if engine != "auto" and engine not in here:
        raise ValueError(f"engine: expected one installed here ({', '.join(here)}), got {engine!r}")
    if device != "cpu" and engine in ("auto", "torch"):
        import torch

        if torch.cuda.is_available():
            device = "cuda"
        elif device == "cuda":
            raise ValueError("device: expected auto or cpu, torch sees no CUDA device, got 'cuda'")
    device = "cpu" if device == "auto" else device
    if engine == "auto":
        engine = "openvino" if "openvino" in here and device == "cpu" else "torch"
    if (engine, device) not in RUNS:
        raise ValueError(f"device: expected cpu with engine {engine}, got {device!r}")
    known = RUNS[engine, device]
    if precision not in ("auto", *known):
        raise ValueError(
            f"precision: expected one of auto, {', '.join(known)} with engine {engine} on "
            f"{device}, got {precision!r}"
        )
    return engine, device


def difference(a: tuple, b: tuple) -> float:
    """Return the larger median relative difference of two (coarse, refined); NaN counts as inf.

    A logit that stands beside them is no depth: its difference is not relative to anything.
    """
    medians = [
        np.median(np.abs(p - q) / np.maximum(np.abs(q), 1e-3))
        for p, q in zip(a[:2], b[:2], strict=True)
    ]
    return float(np.nan_to_num(np.max(medians), nan=np.inf))


def start(
    model,
    x: np.ndarray,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
):
    """Return an engine for `model` (a TwoStage), verified on the frame x float32 (1, C, h, w).

    If it differs from torch in fp32 by more than `TOLERANCE`, or cannot be built although it was
    not asked for by name, the answer is torch in fp32 on the same device, with a RuntimeWarning.
    """
    name, device = pick(engine, device, precision)
    threads = cores(threads)
    reference = TorchEngine(model, x, device, "fp32", threads)
    expected = reference(x)
    try:
        chosen = ENGINES[name](model, x, device, precision, threads)
    except RuntimeError as error:  # what a converter raises for a graph it does not know
        if engine != "auto":
            raise ValueError(f"engine: {name} cannot run this network: {error}") from error
        reason = f"it cannot run this network ({str(error).splitlines()[0]})"
    else:
        gap = difference(chosen(x), expected)
        if gap <= TOLERANCE:
            return chosen
        reason = f"its median relative difference is {gap:.1%}, more than {TOLERANCE:.0%}"
    message = f"engine {name}: {reason}; using torch in fp32 on {device} instead"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return reference


def beside(runtime: Any, network: Any, x: np.ndarray, threads: int = 0) -> Any:
    """Return an engine for another `network`, for inputs like x, that is as `runtime` is."""
    return type(runtime)(network, x, runtime.device, runtime.precision, cores(threads))
