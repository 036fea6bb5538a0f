"""Evaluation of a policy on the same prompts and the same noise at every point, for every method and seed.

Rows of two methods or points are paired by (split, prompt, sample). The cost of evaluation is billed separately
(`eval_queries`, `eval_nfe`, `eval_seconds`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import EvaluatedRows, micro_batches
from models.noise import SeedStream
from models.paths.prediction import Prediction
from models.policy import Policy
from models.sampler import SamplerSettings
from reports.names import TRAINING_SAMPLER_REWARD

Sample = Callable[[EvaluatedRows], Tensor]
"""Function that gives x_0 `[B, C, h, w]` of some rows, as `methods.base.SamplingMethod.sample`."""

Score = Callable[[Tensor, list[str]], dict[str, Tensor]]
"""Function of images `[B, 3, H, W]` and B prompts that gives metric -> scores `[B]`."""


@dataclass
class Evaluation:
    """The evaluation of one point of the curve.

    Attributes:
        rows: one row per (split, metric, prompt, sample) with its `value`.
        values: split -> metric -> mean over prompts.
        pictures: (split, prompt) -> its first image, `[3, H, W]` in [0, 1].
    """

    rows: pd.DataFrame
    values: dict[str, dict[str, float]]
    pictures: dict[tuple[str, str], Tensor] = field(default_factory=dict)


class Evaluator:
    """Scores a policy on fixed prompts and fixed noise.

    Args:
        policy: the policy; each call evaluates its current adapter.
        sampler: the evaluation sampler, one for all methods of a sweep.
        prompts: split -> prompts.
        images: images of each prompt.
        seed: `evaluate.seed`, never the trial's seed.
        score: gives the scores; the metric `reward` is the optimised reward.
        embed: images `[B, 3, H, W]` -> features `[B, D]` of unit length, for diversity.
    """

    def __init__(
        self,
        policy: Policy,
        sampler: SamplerSettings,
        prompts: Mapping[str, Sequence[str]],
        images: int,
        seed: int,
        score: Score,
        embed: Callable[[Tensor], Tensor] | None = None,
    ):
        self.policy, self.sampler, self.prompts, self.images = policy, sampler, prompts, images
        self.seeds = SeedStream(seed)
        self.score = score
        self.embed = embed or thumbnail_features
        self.batch = policy.sampled_at_once * policy.workers.size

    @torch.no_grad()
    def __call__(
        self, sample: Sample | None = None, trained: bool = True, training_sampler: SamplerSettings | None = None
    ) -> Evaluation:
        """Evaluates the policy with its current adapter.

        Args:
            sample: a sampling method's own sampling; the evaluation sampler by default.
            trained: False if the adapter is the identity, so that drift is zero and need not be measured.
            training_sampler: a second sampler, under which the reward on training prompts is evaluated too, on the
                same noise: the metric `TRAINING_SAMPLER_REWARD`.
        """
        frames: list[pd.DataFrame] = []
        pictures: dict[tuple[str, str], Tensor] = {}
        with self.policy.meter.phase("eval"):
            for split, prompts in self.prompts.items():
                rows = self.rows(split)
                images, drift = self._sample(rows, sample, trained)
                metrics = self._scores(images, rows.prompts) | {"drift": drift}
                if training_sampler is not None and split == "train":
                    metrics[TRAINING_SAMPLER_REWARD] = self._rewards_under(training_sampler, rows)
                frames += [self._frame(split, metric, rows.prompts, scores) for metric, scores in metrics.items()]
                pictures |= {
                    (split, prompt): image for prompt, image in zip(prompts, images[:: self.images], strict=True)
                }
        all_rows = pd.concat(frames, ignore_index=True)
        values = {
            split: {
                str(metric): float(group["value"].mean(skipna=False))
                for metric, group in of_split.groupby("metric", sort=False)
            }
            for split, of_split in all_rows.groupby("split", sort=False)
        }
        return Evaluation(all_rows, {str(split): means for split, means in values.items()}, pictures)

    def rows(self, split: str) -> EvaluatedRows:
        """The rows of a split, one for each image; a prompt's images are adjacent."""
        prompts = [prompt for prompt in self.prompts[split] for _ in range(self.images)]

        def noise_of(key: int, samples: Sequence[int]) -> Tensor:
            return self.seeds.noise(f"evaluation/{split}", 0, key, samples, self.policy.state_shape)

        return EvaluatedRows(split, prompts, range(len(prompts)), noise_of)

    def _sample(self, rows: EvaluatedRows, sample: Sample | None, trained: bool) -> tuple[Tensor, Tensor]:
        """Images `[N, 3, H, W]` and drift `[N]`, which is measured on each prompt's first image and NaN elsewhere."""
        images, drifts = [], []
        for piece in micro_batches(len(rows), self.batch):
            first = [row for row, index in enumerate(rows.samples[piece]) if index % self.images == 0]
            measured = torch.tensor(first, dtype=torch.int64, device=self.policy.device)
            drift = torch.full((len(rows[piece]),), torch.nan, device=self.policy.device)
            drift[measured] = 0.0
            latents = sample(rows[piece]) if sample else self._denoise(rows[piece], drift, measured, trained)
            images.append(self.policy.decode(latents))
            drifts.append(drift)
        return torch.cat(images), torch.cat(drifts)

    def _rewards_under(self, sampler: SamplerSettings, rows: EvaluatedRows) -> Tensor:
        """The rewards `[N]` of images that another sampler draws."""
        policy = self.policy

        def sample(own: EvaluatedRows) -> Tensor:
            return policy.sample(policy.start(own.noise(-1)), policy.encode(own.prompts), own.noise, sampler)

        images, _ = self._sample(rows, sample, trained=False)
        return self._scored(images, rows.prompts)["reward"]

    def _denoise(self, rows: EvaluatedRows, drift: Tensor, measured: Tensor, trained: bool) -> Tensor:
        """x_0 `[B, C, h, w]` by the evaluation sampler; adds the drift of the rows numbered `measured` to `drift`."""
        policy, sampler = self.policy, self.sampler
        conditioning = policy.encode(rows.prompts)

        def observe(step: int, prediction: Prediction) -> None:
            own = prediction[measured]
            with policy.using("base"):
                base = policy.predict(own.state, own.times, conditioning[measured], sampler.guidance)
            drift[measured] += own.distance(base) / sampler.steps

        start = policy.start(rows.noise(-1))
        return policy.sample(start, conditioning, rows.noise, sampler, observe=observe if trained else None)

    def _scored(self, images: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        pieces = [self.score(images[rows], prompts[rows]) for rows in micro_batches(len(prompts), self.batch)]
        return {metric: torch.cat([piece[metric] for piece in pieces]) for metric in pieces[0]}

    def _scores(self, images: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        scores = self._scored(images, prompts)
        if self.images > 1:
            features = torch.cat([self.embed(images[rows]) for rows in micro_batches(len(prompts), self.batch)])
            scores["diversity"] = diversity(features, self.images).repeat_interleave(self.images)
        return scores

    def _frame(self, split: str, metric: str, prompts: list[str], scores: Tensor) -> pd.DataFrame:
        frame = pd.DataFrame(
            {
                "split": split,
                "metric": metric,
                "prompt": prompts,
                "sample": [index % self.images for index in range(len(prompts))],
                "value": scores.cpu().double().numpy(),
            }
        )
        # Diversity belongs to a prompt, and drift is measured on its first image: both have one row for each prompt.
        return frame[frame["sample"] == 0] if metric in ("diversity", "drift") else frame


def diversity(features: Tensor, images: int) -> Tensor:
    """Mean pairwise squared distance of each prompt's images: Σ_{i,j} ‖e_i − e_j‖² / (2 n (n − 1)), `[prompts]`.

    Args:
        features: `[prompts × images, D]`, a prompt's images together.
        images: n, at least 2.
    """
    grouped = features.unflatten(0, (-1, images)).double()
    squared = torch.cdist(grouped, grouped) ** 2
    return squared.sum((1, 2)) / (2 * images * (images - 1))


def thumbnail_features(images: Tensor) -> Tensor:
    """Features `[B, 3·16·16]` of unit length for a reward that has no embedding: a centred 16 × 16 thumbnail."""
    thumbnails = F.interpolate(images, size=(16, 16), mode="bilinear", antialias=True, align_corners=False)
    return F.normalize((thumbnails - 0.5).flatten(1), dim=1)
