"""Layers that the networks of the embedded rewards share."""

from torch import nn


def stage(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution with batch normalisation and GELU, which divides height and width by `stride`."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.GELU())


def trunk(width: int, outputs: int) -> nn.Sequential:
    """An encoder from images `[B, 3, 64, 64]` in [-1, 1] to features `[B, outputs]`.

    Four stages lead to an 8 × 8 grid, which is pooled to 4 × 4. The grid is not averaged, because composition and count
    need positions.

    Args:
        width: channels of the first stage; the second has twice, the third and fourth have four times as many.
        outputs: number of features.
    """
    return nn.Sequential(
        stage(3, width, kernel=5, stride=2),
        stage(width, 2 * width, kernel=3, stride=2),
        stage(2 * width, 4 * width, kernel=3, stride=2),
        stage(4 * width, 4 * width, kernel=3, stride=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width * 16, outputs),
    )
