"""What the embedded rewards' networks are built of."""

from torch import nn


def stage(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution, normalised, with GELU; the size is divided by `stride`."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.GELU())


def trunk(outputs: int) -> nn.Sequential:
    """Images `[B, 3, 64, 64]` in [-1, 1] -> features `[B, outputs]`: four stages to an 8 × 8 grid, pooled to 4 × 4.

    The grid is kept, and not one mean, because the count is a matter of where things are.
    """
    return nn.Sequential(
        stage(3, 24, kernel=5, stride=2),
        stage(24, 48, kernel=3, stride=2),
        stage(48, 96, kernel=3, stride=2),
        stage(96, 96, kernel=3, stride=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96 * 16, outputs),
    )
