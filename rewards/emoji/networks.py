"""What the embedded rewards' networks are built of."""

from torch import nn


def stage(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution, normalised, with GELU; the size is divided by `stride`."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.GELU())


def trunk(width: int, outputs: int) -> nn.Sequential:
    """Images `[B, 3, 64, 64]` in [-1, 1] -> features `[B, outputs]`: four stages to an 8 × 8 grid, pooled to 4 × 4.

    The grid is kept, and not one mean, because composition and count are a matter of where things are.

    Args:
        width: channels of the first stage; the second has twice, the third and fourth have four times as many.
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
