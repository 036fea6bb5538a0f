"""Tests over seeds, and their power.

The null hypothesis: the run is another draw of the process that the baseline was drawn from. Only the seed varies;
prompts and evaluation noise are the same on both sides, so the effect of a prompt cancels. Seeds are therefore the only
replicates. Two images of one trained model are none: an equivalent change of the code, with the same seeds, gives
curves that differ as those of other seeds do, and a test over prompts would call that a difference.

- `paired`: Student's t on each seed's difference. Under the null the two sides of a seed are exchangeable, so their
  difference is symmetric about zero, whether they are nearly equal (another machine) or unrelated (an equivalent
  implementation). n − 1 degrees of freedom.
- `pooled`: Student's two-sample t. Two seeds on each side, or one against several, are enough; where the sides of a
  seed are correlated the test is conservative. n + m − 2 degrees of freedom.

A loss is above zero where a statistic got worse, whichever direction is better.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

Test = Literal["paired", "pooled"]

ALPHA = 0.05
"""Chance that a gate calls an unchanged run a regression, over all its methods and statistics."""

POWER = 0.8
SEEDS_FOR_PAIRING = 5
"""With fewer seeds the paired test has too few degrees of freedom: with three seeds and two methods a loss must be 4.3
standard errors to be significant, in the pooled test 2.8."""

_GRID = 100  # quantiles in each direction of `expected_power`


@dataclass(frozen=True)
class Evidence:
    """The result of a test over seeds.

    Attributes:
        test: its name; "none" where there are too few seeds for any.
        loss: mean over seeds; above zero is worse.
        error: standard error of the loss, NaN without a test.
        degrees: degrees of freedom.
        p: chance of a loss at least this large under the null.
        p_gain: chance of a gain at least this large under the null.
        interval: 95 % Student-t interval of the loss, from five seeds on.
    """

    test: Literal["paired", "pooled", "none"]
    loss: float
    error: float
    degrees: int
    p: float
    p_gain: float
    interval: tuple[float, float] | None = None


def paired(losses: ArrayLike) -> Evidence:
    """Student's t-test on one loss a seed."""
    losses = np.asarray(losses, dtype=float)
    error = float(losses.std(ddof=1) / math.sqrt(losses.size)) if losses.size > 1 else math.nan
    return _evidence("paired", float(losses.mean()), error, losses.size - 1, losses.size)


def pooled(baseline: ArrayLike, run: ArrayLike, sign: float = 1.0) -> Evidence:
    """Student's two-sample t-test with pooled variance, as both sides have the same variance under the null.

    Args:
        baseline, run: one value a seed.
        sign: 1 where higher is better, −1 where lower is.
    """
    before, after = np.asarray(baseline, dtype=float), np.asarray(run, dtype=float)
    degrees = before.size + after.size - 2
    loss = sign * float(before.mean() - after.mean())
    error = math.nan
    if degrees > 0:
        squares = ((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum()
        error = math.sqrt(squares / degrees * (1 / before.size + 1 / after.size))
    return _evidence("pooled", loss, error, degrees, min(before.size, after.size))


def _evidence(test: Test, loss: float, error: float, degrees: int, seeds: int) -> Evidence:
    if degrees < 1 or not math.isfinite(loss):
        return Evidence("none", loss, math.nan, 0, 1.0, 1.0)
    if error <= 1e-12 * abs(loss):  # nothing varies: the meter's counts, or an untrained method
        interval = (loss, loss) if seeds >= 5 else None
        return Evidence(test, loss, 0.0, degrees, 0.0 if loss > 0 else 1.0, 0.0 if loss < 0 else 1.0, interval)
    t = loss / error
    half = float(stats.t.ppf(0.975, degrees)) * error
    interval = (loss - half, loss + half) if seeds >= 5 else None
    return Evidence(test, loss, error, degrees, float(stats.t.sf(t, degrees)), float(stats.t.cdf(t, degrees)), interval)


def holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The adjusted p-values of Holm's weighted step-down procedure (Holm 1979, Scand. J. Statist. 6, section 4).

    Rejecting the hypotheses whose adjusted p is at most α keeps the chance of any false rejection at most α, whatever
    the dependence between the tests.

    Args:
        weights: each hypothesis' share of α in the first step.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i])
    left, worst = sum(weights), 0.0
    adjusted = [1.0] * len(p_values)
    for i in order:
        worst = max(worst, min(1.0, p_values[i] * left / weights[i]))
        adjusted[i] = worst
        left -= weights[i]
    return adjusted


def default_test(baseline_seeds: int, run_seeds: int) -> Test:
    """The test for these numbers of seeds. The choice does not depend on the values, which would bias it."""
    return "paired" if min(baseline_seeds, run_seeds) >= SEEDS_FOR_PAIRING else "pooled"


def standard_deviation(values: ArrayLike) -> float:
    """The standard deviation over seeds with divisor n − 1; NaN for one value."""
    values = np.asarray(values, dtype=float)
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def expected_power(
    loss: float, tolerance: float, test: Test, baseline_seeds: int, run_seeds: int, alpha: float
) -> float:
    """The chance that a true loss is found to be significant and above the tolerance.

    `loss` and `tolerance` are in units of the standard deviation s of *this baseline*'s seeds. The chance is over
    baselines too, as s is uncertain with few seeds. With u = (n − 1) s² / σ² ~ χ²(n − 1), and Z standard normal:

        pooled: P(Z c + loss·s > t c s_p),    (n + m − 2) s_p² / σ² = u + χ²(m − 1),   c² = 1/n + 1/m
        paired: P(Z c + loss·s > t s_d / √n), (n − 1) s_d² / σ² ~ χ²(n − 1; non-centrality u),   c² = 2/n

    This holds for values that are normal over seeds and, for pairs, uncorrelated; where the sides of a seed are
    correlated the power is higher.
    """
    n, m = baseline_seeds, run_seeds
    degrees = n - 1 if test == "paired" else n + m - 2
    if n < 2 or m < 1 or degrees < 1:
        return 0.0
    s, error = _spreads(test, n, m)
    c = math.sqrt(1 / n + 1 / m)
    threshold = np.maximum(stats.t.ppf(1 - alpha, degrees) * error, tolerance * s)
    return float(special.ndtr((loss * s - threshold) / c).mean())


@lru_cache(maxsize=64)
def _spreads(test: Test, n: int, m: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(s / σ, the test's standard error / σ) over a grid of their joint quantiles."""
    share = (np.arange(_GRID) + 0.5) / _GRID
    u = stats.chi2.ppf(share, n - 1)[:, None]
    if test == "paired":
        error = np.sqrt(stats.ncx2.ppf(share[None, :], n - 1, u) / (n - 1) / n)
    else:
        other = stats.chi2.ppf(share, m - 1)[None, :] if m > 1 else np.zeros((1, 1))
        error = np.sqrt((u + other) / (n + m - 2) * (1 / n + 1 / m))
    return np.sqrt(u / (n - 1)), error


def detectable_factor(
    tolerance: float, test: Test, baseline_seeds: int, run_seeds: int, alpha: float, power: float = POWER
) -> float:
    """The smallest loss that is found with `power`, in units of the baseline's standard deviation over seeds."""

    def missing(loss: float) -> float:
        return expected_power(loss, tolerance, test, baseline_seeds, run_seeds, alpha) - power

    top = 1e4  # standard deviations
    if missing(top) < 0:
        return math.inf
    return float(optimize.brentq(missing, 0.0, top, xtol=1e-3))


def crossed_interval(
    differences: NDArray[np.float64], draws: int = 2000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean, resampling seeds and prompts as crossed factors (Owen 2007).

    Each draw takes one set of prompts for all seeds, as all seeds are evaluated on the same prompts.

    Args:
        differences: `[seeds, prompts]`.
    """
    generator = np.random.default_rng(seed)
    n, m = differences.shape
    seeds = generator.multinomial(n, np.full(n, 1 / n), size=draws) / n
    prompts = generator.multinomial(m, np.full(m, 1 / m), size=draws) / m
    means = np.einsum("ds,sp,dp->d", seeds, differences, prompts)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


CROSSED_COVERAGE: Mapping[int, float] = {5: 0.87, 10: 0.92}
"""Seeds -> simulated coverage of `crossed_interval`'s 95 % with 20 prompts (docs/gate.md)."""
