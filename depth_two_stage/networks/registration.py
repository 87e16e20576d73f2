# SPDX-License-Identifier: Apache-2.0
"""How far the image lies beside its points: a correlation of edges, with learned weights.

Of no paper. Cameras that were calibrated or timed not quite well put points some pixels beside the
things in the image that they were measured on, and a network that looks for edges in the image then
puts them where the points contradict it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .inputs import NEAREST, POINTS, SMOOTH
from .levels import enlarged, level, merged, unit

REACH = 6  # px of the network's input, along each axis
#: log depth per px from which an edge of depth is as good as any other
STEEP = 0.12
#: edges wider than so many px are shades, and no edges
SHADE = 20.0
TILE = 36  # px of the network's input
#: where the evidence starts: about one unit of logit between good and bad offsets at 16 beams
EVIDENCE = 4e-3


class RegistrationNetwork(nn.Module):
    """Input (B, 8, h, w) of ``inputs.assemble`` → logits (B, 2 R + 1, 2 R + 1) of the offset.

    The first axis is rows: the image lies -R…R px below its points, the second columns: to the
    right of them. R is `REACH`; `places` says what each part of the image adds. Gradients of colour
    and of the two interpolations of the points are correlated; two small networks say how much each
    pixel's is worth, and add ``extra`` features of their own. Nothing knows where in the image it
    is, and points within 3 R of the border are not asked, so that the border itself tells nothing.
    """

    def __init__(self, width: int = 16, extra: int = 2, reach: int = REACH) -> None:
        super().__init__()
        self.reach = reach
        self.image = _Features(3 + 2, width, 4, extra)
        self.points = _Features(POINTS - 2 + 4, width, 4, extra)
        self.evidence = nn.Parameter(torch.zeros(()))
        self.prior = nn.Parameter(torch.zeros(2 * reach + 1, 2 * reach + 1))
        with torch.no_grad():
            self.prior[reach, reach] = 3.0

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.places(x).sum(dim=(1, 2)) + self.prior

    def places(self, x: Tensor) -> Tensor:
        """What each tile of `TILE` px adds to the logits, (B, rows, columns, 2 R + 1, 2 R + 1)."""
        return self.told(*self.features(x))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen of the image and of the points, each (B, F, h, w)."""
        colour, points = x[:, :3], x[:, 3:]
        slopes = gradients(colour.float())
        edges = torch.cat([part.amax(dim=1, keepdim=True) for part in slopes], dim=1)
        edges = edges / (_surroundings(edges) + 0.03)
        jumps = torch.cat(gradients(x[:, [SMOOTH, NEAREST]].float()), dim=1)
        jumps = jumps.clamp(max=STEEP) / STEEP
        a = self.image(torch.cat((colour, edges), dim=1), edges.repeat_interleave(2, dim=1))
        b = self.points(torch.cat((points, jumps), dim=1), jumps)
        return a, b

    def told(self, image: Tensor, points: Tensor) -> Tensor:
        """`places` of `features`."""
        return self.evidence.exp() * EVIDENCE * self._correlations(image, points)

    def _correlations(self, image: Tensor, points: Tensor) -> Tensor:
        """Sum over features and a tile's pixels p of points(p) · image(p + offset)."""
        (h, w), r = image.shape[-2:], self.reach
        inner = torch.zeros_like(points[:1, :1])
        inner[..., 3 * r : h - 3 * r, 3 * r : w - 3 * r] = 1
        with torch.autocast(image.device.type, enabled=False):
            image = _sharpened(image)
            rows, columns = -(-h // TILE), -(-w // TILE)
            below, right = rows * TILE - h, columns * TILE - w
            image = F.pad(image, (r, right + r, r, below + r))
            points = F.pad(points * inner, (0, right, 0, below))
            size = (TILE + 2 * r, TILE + 2 * r)
            spectra = [
                torch.fft.rfft2(tiles.unfold(2, side, TILE).unfold(3, side, TILE), s=size)
                for tiles, side in ((image, size[0]), (points, TILE))
            ]
            return torch.fft.irfft2((spectra[0] * spectra[1].conj()).sum(dim=1), s=size)[
                ..., : 2 * r + 1, : 2 * r + 1
            ]


class Seen(nn.Module):
    """The features alone, (B, 1, F, h, w) each: what an engine runs, correlation needs FFTs."""

    confident = False

    def __init__(self, network: RegistrationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the image, of the points."""
        return tuple(each.unsqueeze(1) for each in self.network.features(x))


class _Features(nn.Module):
    """Maps (B, C, h, w) and known features (B, K, h, w) → (B, K + extra, h, w), in fp32.

    A U-Net of half and quarter size weighs the known ones (1 at first) and adds its own (0).
    """

    def __init__(self, channels: int, width: int, known: int, extra: int) -> None:
        super().__init__()
        self.known = known
        self.stem = unit(channels, width, 2)
        self.down = level(unit(width, 2 * width, 2), 2 * width, 1)
        self.narrow, self.merge = unit(2 * width, width), unit(2 * width, width)
        self.out = nn.Conv2d(width, 4 * (known + extra), 3, 1, 1)
        nn.init.normal_(self.out.weight, std=1e-2)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        half = self.stem(x)
        y = self.out(merged(self.down(half), half, self.narrow, self.merge))
        y = F.pixel_shuffle(y, 2)[..., : x.shape[-2], : x.shape[-1]].float()
        worth = F.softplus(y[:, : self.known]) / math.log(2)
        return torch.cat((known * worth, y[:, self.known :]), dim=1)


def gradients(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's: (B, C, h, w) → how much each changes per px along x and along y, absolute."""
    y = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    down = y[..., :-2, :] + 2 * y[..., 1:-1, :] + y[..., 2:, :]
    right = y[..., :-2] + 2 * y[..., 1:-1] + y[..., 2:]
    along_x, along_y = down[..., 2:] - down[..., :-2], right[..., 2:, :] - right[..., :-2, :]
    return along_x.abs() / 8, along_y.abs() / 8


def _sharpened(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) without what is wider than `SHADE`."""
    h, w = maps.shape[-2:]
    y = torch.fft.fftfreq(h, device=maps.device)[:, None]
    x = torch.fft.rfftfreq(w, device=maps.device)[None]
    sharp = 1 - torch.exp(-((y * SHADE) ** 2) - (x * SHADE) ** 2)
    return torch.fft.irfft2(torch.fft.rfft2(maps) * sharp, s=(h, w))


def _surroundings(maps: Tensor) -> Tensor:
    """The mean over some forty pixels round each."""
    small = F.avg_pool2d(maps, 8, ceil_mode=True)
    small = F.avg_pool2d(small, 5, 1, 2, count_include_pad=False)
    return enlarged(small, maps)
