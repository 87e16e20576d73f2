# SPDX-License-Identifier: Apache-2.0
"""Small maps whose losses can be computed by hand."""

import torch

NAN, INF = float("nan"), float("inf")
PRINTED = "ignore:scale_invariant as C prints it"


def maps(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def batch(*rows):
    """One image a row, one line of pixels each."""
    return torch.tensor(rows, dtype=torch.float64)[:, None, None]


def all_of(values):
    return torch.ones_like(values, dtype=torch.bool)


TARGET = maps(1.0, 1.0, 1.0, 9.0)
VALID = maps(1.0, 1.0, 1.0, 0.0).bool()
PREDICTION = maps(1.1, 0.5, 3.0, 0.0)  # errors 0.1, 0.5, 2.0; the last pixel is not valid
# Two images of three pixels; the last pixel of the second has no depth.
TWO = batch([2.0, 1.0, 4.0], [3.0, 8.0, 5.0])
TWO_TRUE = batch([1.0, 1.0, 2.0], [3.0, 4.0, NAN])  # errors 1, 0, 2 and 0, 4
TWO_VALID = batch([1.0, 1.0, 1.0], [1.0, 1.0, 0.0]).bool()
