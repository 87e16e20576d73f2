# SPDX-License-Identifier: Apache-2.0
"""FCRN (E; stage one of A and B) and its ablation: encoder, 1×1 convolution, four steps up, 3×3."""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import DeConv, UpConv, UpProj
from .encoders import encoder as make_encoder

DECODERS = {"upproj": UpProj, "upconv": UpConv, "deconv": DeConv, "deconv3": DeConv}
# Whose network it is in what the papers leave open: ours, or one whose weights are public.
VARIANTS = ("own", "tensorflow", "sparse-to-dense")
# What the 1×1 convolution leaves. ResNet: half (Figure 1). The others are not printed: 384 gives
# AlexNet-UpConv its 6.3 M; nothing natural gives VGG-UpConv's 18.5 M, 448 comes to 18.3 M.
SQUEEZED = {"alexnet": 384, "vgg16": 448}


class FCRN(nn.Module):
    """(B, in_channels, 228, 304) → (B, 1, 128, 160), metres or a correction in metres.

    RGB (3 channels), RGB-d (4: A's sparse channel) or RGB with two channels of filled depth (5).
    The decoder halves its width at each step: 2048 → 1024 → 512 → 256 → 128 → 64 with ResNet-50.
    The output has 16 times the encoder's size: 128×160 with a ResNet, 96×128 with AlexNet, 112×144
    with VGG-16. ``fast``, ``side`` and ``filling`` choose the form of the up-convolutions.
    The last convolution has a bias (E does not say): it lets the output start at a mean depth.
    New layers start at N(0, 0.1²) in E; ``init_std`` None keeps He's, which BN makes equivalent
    up to the learning rate.

    ``variant`` ``tensorflow`` is the network of E's released TensorFlow weights: biases in the
    stem, the 1×1 and all of the decoder, the stride on the first 1×1 of a block, the stem's pool
    padded at the bottom and right, BN with ε 1e-4, a last ReLU; it wants ``side`` top_left.
    ``sparse-to-dense`` is that of Ma and Karaman's: no bias in the last convolution.
    """

    def __init__(
        self,
        encoder: str = "resnet50",
        in_channels: int = 3,
        decoder: str = "upproj",
        width: float = 1.0,
        fast: bool = True,
        side: str = "bottom_right",
        dropout: float = 0.0,
        init_std: float | None = None,
        filling: str = "zeros",
        variant: str = "own",
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant: expected one of {', '.join(VARIANTS)}, got {variant!r}")
        released = variant == "tensorflow"
        if released and (encoder, decoder, fast) != ("resnet50", "upproj", True):
            raise ValueError(
                f"variant: expected a fast resnet50 upproj for {variant}, got {encoder} {decoder}"
            )
        if decoder not in DECODERS:
            raise ValueError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
        self.encoder = make_encoder(encoder, in_channels, width)
        channels = self.encoder.out_channels // 2
        if encoder in SQUEEZED:
            channels = max(1, round(width * SQUEEZED[encoder]))
        self.conv = nn.Conv2d(self.encoder.out_channels, channels, 1, bias=released)
        self.bn = nn.BatchNorm2d(channels)
        form = {"deconv": (2,), "deconv3": (3,)}.get(decoder, (fast, side, filling))
        form += (True,) * released
        steps = []
        for _ in range(4):
            steps.append(DECODERS[decoder](channels, max(1, channels // 2), *form))
            channels = max(1, channels // 2)
        self.decoder = nn.Sequential(*steps)
        self.dropout = nn.Dropout(dropout)
        self.predict = nn.Conv2d(channels, 1, 3, padding=1, bias=variant != "sparse-to-dense")
        self.last = nn.ReLU() if released else nn.Identity()
        if released:
            self._as_released()
        self._initialise(init_std)

    def forward(self, x: Tensor) -> Tensor:
        """Encode, decode; our own has no last ReLU, so that a correction may be negative."""
        x = self.bn(self.conv(self.encoder(x)))
        return self.last(self.predict(self.dropout(self.decoder(x))))

    def new_layers(self) -> list[nn.Module]:
        """The layers that no ImageNet file initialises."""
        return [self.conv, self.bn, self.decoder, self.predict]

    def _as_released(self) -> None:
        """Change the encoder, which has torchvision's form, into that of E's released weights."""
        stem = self.encoder.conv1
        self.encoder.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 7, 2, 3)
        nn.init.kaiming_normal_(self.encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.encoder.conv1.bias)
        # TensorFlow's SAME on an even size: one row below, one column to the right.
        self.encoder.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
        for layer in (self.encoder.layer2, self.encoder.layer3, self.encoder.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-4

    def _initialise(self, std: float | None) -> None:
        for part in self.new_layers():
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    if std is None:
                        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                    else:
                        nn.init.normal_(module.weight, std=std)
        if std is None:  # a correction starts near zero
            nn.init.normal_(self.predict.weight, std=1e-3)
        if self.predict.bias is not None:
            nn.init.zeros_(self.predict.bias)
