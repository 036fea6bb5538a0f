"""Runs with known truth, for the gate's error rates and the intervals' coverage.

`python -m tests.reports.simulate` prints the tables of docs/gate.md. A method's value on a prompt with a seed is

    start + (gain − loss) + P_p + A_s + C_sp,    A ~ N(0, 1), C ~ N(0, 0.7²), P ~ N(0, 0.7²)

with prompts crossed with seeds: P is the same for all seeds and on both sides, A and C are drawn for each side with
correlation `alike`: 0 for an equivalent implementation with other luck, near 1 for the same one on another machine.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from reports.regression.baseline import Baseline, make
from reports.regression.gate import check
from reports.regression.verdict import RunVerdict
from reports.statistics import evidence
from reports.statistics.curve import t_interval

PROMPT, CROSS = 0.7, 0.7
AXIS = "reward_queries"
KNOWN = {"protocol": {"reward": "simulated"}, "fingerprint": {"cpu": "one"}}


def values(
    generator: np.random.Generator, pairs: int, seeds: int, prompts: int, alike: float, loss: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Baselines and runs `[pairs, seeds, prompts]`; the runs are lower by `loss`."""

    def sides(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        shared, first, second = (generator.standard_normal(shape) for _ in range(3))
        return tuple(math.sqrt(alike) * shared + math.sqrt(1 - alike) * own for own in (first, second))  # type: ignore[return-value]

    of_prompt = PROMPT * generator.standard_normal((pairs, 1, prompts))
    of_seed, of_both = sides(pairs, seeds, 1), sides(pairs, seeds, prompts)
    before, after = (of_prompt + a + CROSS * c for a, c in zip(of_seed, of_both, strict=True))
    return before, after - loss


def frames(grids: dict[str, np.ndarray]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Curves, evaluation and trials of a run: variant -> final values `[seeds, prompts]`, reached in two steps."""
    curves, evaluation, trials = [], [], []
    for variant, grid in grids.items():
        for seed, row in enumerate(grid):
            trial = {"trial": f"{variant}-s{seed}", "method": variant, "variant": variant, "seed": seed}
            trials.append({**trial, "status": "done"})
            for point, share in enumerate((0.0, 0.5, 1.0)):
                at = {**trial, "point": point, "split": "train", "metric": "reward"}
                cost = {AXIS: 64.0 * point, "steps": 4.0 * point, "nfe": 320.0 * point}
                curves.append({**at, **cost, "status": "done", "value": share * float(row.mean())})
                evaluation += [
                    {**at, "prompt": f"prompt {p}", "sample": 0, "value": share * float(v)} for p, v in enumerate(row)
                ]
    return pd.DataFrame(curves), pd.DataFrame(evaluation), pd.DataFrame(trials)


def baseline_of(grids: dict[str, np.ndarray], primary: str = "final") -> Baseline:
    curves, evaluation, _ = frames(grids)
    return make(
        curves, evaluation, name="simulated", reward="simulated", axis=AXIS, target=None, provenance={}, settings={},
        primary=primary, **KNOWN,
    )  # fmt: skip


def verdict_of(baseline: Baseline, grids: dict[str, np.ndarray], **options) -> RunVerdict:
    return check(baseline, *frames(grids), **KNOWN, mode="statistical", **options)


def verdicts(
    pairs: int, seeds: int, prompts: int, alike: float, seed: int, methods: int = 2, gain: float = 8.0
) -> Iterator[tuple[Baseline, RunVerdict]]:
    """Baselines and unchanged runs, through the frames and the whole gate."""
    generator = np.random.default_rng(seed)
    for _ in range(pairs):
        both = {f"m{k}": values(generator, 1, seeds, prompts, alike) for k in range(methods)}
        baseline = baseline_of({name: gain + before[0] for name, (before, _) in both.items()})
        yield baseline, verdict_of(baseline, {name: gain + after[0] for name, (_, after) in both.items()})


def alarms(pairs: int, seeds: int, alike: float, seed: int, methods: int = 2, others: int = 2) -> int:
    """How many of `pairs` unchanged runs a gate with no tolerance calls a regression, at the level of seeds.

    Each method has a primary statistic and `others`, all correlated with it, as a curve's are.
    """
    generator = np.random.default_rng(seed)
    test = evidence.default_test(seeds, seeds)
    weights = [0.8 / methods] * methods + [0.2 / methods / others] * methods * others
    found = 0
    for _ in range(pairs):
        p_values, secondary = [], []
        for _ in range(methods):
            before, after = (grid[0].mean(1) for grid in values(generator, 1, seeds, 8, alike))
            p_values.append(_p(test, before, after))
            for _ in range(others):
                noise = generator.normal(0, 0.5, (2, seeds))
                secondary.append(_p(test, before + noise[0], after + noise[1]))
        found += min(evidence.holm([*p_values, *secondary], weights)) <= evidence.ALPHA
    return found


def _p(test: evidence.Test, before: np.ndarray, after: np.ndarray) -> float:
    return (evidence.paired(before - after) if test == "paired" else evidence.pooled(before, after)).p


def seen(pairs: int, seeds: int, run_seeds: int, alike: float, seed: int, alpha: float) -> float:
    """Share of planted losses that are called, each of the size its own baseline claims to detect."""
    generator = np.random.default_rng(seed)
    test = evidence.default_test(seeds, run_seeds)
    found = 0
    tolerance = 1.5 * math.sqrt(2 / seeds)
    factor = evidence.detectable_factor(tolerance, test, seeds, run_seeds, alpha)
    for _ in range(pairs):
        before, after = (grid[0].mean(1) for grid in values(generator, 1, max(seeds, run_seeds), 8, alike))
        before, after = before[:seeds], after[:run_seeds]
        spread = before.std(ddof=1)
        after = after - factor * spread
        told = evidence.paired(before - after) if test == "paired" else evidence.pooled(before, after)
        found += told.p <= alpha and told.loss > tolerance * spread
    return found / pairs


def coverage(seeds: int, prompts: int, datasets: int = 2000, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Share of 95 % intervals that hold the true difference: Student-t over seeds, and the crossed bootstrap.

    The truth of the first is on these prompts, of the second on all prompts; differences vary over seeds (1), prompts
    (0.7) and both (0.7).
    """
    generator = np.random.default_rng([seed, seeds, prompts])
    of_prompt = PROMPT * generator.standard_normal((datasets, 1, prompts))
    of_seed = generator.standard_normal((datasets, seeds, 1))
    apart = of_prompt + of_seed + CROSS * generator.standard_normal((datasets, seeds, prompts))
    by_seed = apart.mean(2) - of_prompt.mean(2)
    intervals = [t_interval(row) for row in by_seed]
    student = np.mean([low <= 0 <= high for low, high in filter(None, intervals)])
    held = 0
    for block in np.array_split(apart, datasets // 100):
        drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        asked = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws) / prompts
        means = np.einsum("ndp,dp->nd", np.einsum("ds,nsp->ndp", drawn, block), asked)
        low, high = np.quantile(means, [0.025, 0.975], axis=1)
        held += int(((low <= 0) & (high >= 0)).sum())
    return float(student), held / datasets


def main() -> None:
    print("| seeds | prompts | Student-t over seeds | crossed bootstrap |\n|--:|--:|--:|--:|")
    for seeds in (3, 5, 8, 10):
        for prompts in (8, 20):
            student, crossed = coverage(seeds, prompts)
            print(f"| {seeds} | {prompts} | {100 * student:.1f} % | {100 * crossed:.1f} % |")
    print("\n| seeds | sides of a seed | false alarms of 1,000 | power, one method | power, two methods |")
    print("|--:|---|--:|--:|--:|")
    for seeds in (2, 3, 5, 8):
        for alike in (0.0, 0.7):
            false = alarms(1000, seeds, alike, seed=1)
            power = [seen(20_000, seeds, seeds, alike, 2, 0.05 * share) for share in (1.0, 0.4)]
            print(f"| {seeds} | {alike} alike | {false} | {100 * power[0]:.0f} % | {100 * power[1]:.0f} % |")
    for base, run in ((5, 2), (8, 1), (10, 3)):
        power = [seen(20_000, base, run, 0.0, 2, 0.05 * share) for share in (1.0, 0.4)]
        print(f"| {base}, run {run} | 0.0 alike | | {100 * power[0]:.0f} % | {100 * power[1]:.0f} % |")


if __name__ == "__main__":
    main()
