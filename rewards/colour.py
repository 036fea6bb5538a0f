"""`colourfulness`: a differentiable statistic of an image's colours.

The statistic is D. Hasler and S. Süsstrunk, "Measuring colourfulness in natural images", Human Vision and Electronic
Imaging VIII, 2003 (their metric M̂(3)): with rg = R - G and yb = (R + G)/2 - B,
sqrt(σ_rg² + σ_yb²) + 0.3 sqrt(μ_rg² + μ_yb²).
"""

from torch import Tensor

from rewards.base import Reward

EPSILON = 1e-8  # keeps the square root's gradient finite on flat images


def colourfulness(images: Tensor) -> Tensor:
    """Hasler-Süsstrunk colourfulness [B] of images [B, 3, H, W] in [0, 1]: about 0 to 1.5 (their scale over 255)."""
    red, green, blue = images.flatten(2).unbind(1)
    red_green = red - green
    yellow_blue = (red + green) / 2 - blue
    spread = red_green.var(1, unbiased=False) + yellow_blue.var(1, unbiased=False)
    mean = red_green.mean(1).square() + yellow_blue.mean(1).square()
    return (spread + EPSILON).sqrt() + 0.3 * (mean + EPSILON).sqrt()


class Colourfulness(Reward):
    """Colourfulness as a reward, which is simple and easy to over-optimise."""

    name = "colourfulness"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return colourfulness(images)
