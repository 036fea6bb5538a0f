"""Best of n: the baseline that fine-tuning must beat at equal reward queries.

    x* = argmax_{i ≤ n} r(x_i, c),   x_1 … x_n ~ p_base(· | c)

Nothing is trained. For each evaluated image, n candidates are drawn from the base model and the one with the highest
reward is kept (rejection sampling: Stiennon et al. 2020, arXiv 2009.01325, appendix G.3). With M images evaluated on
the training prompts, a round adds a candidate to each and costs M queries, so after Q queries n = Q / M. The candidates
of n are among those of n + 1, and the first is the image that `base` samples: n = 1 is `base` exactly, and the reward
on training prompts never falls. The curve has a point at n = 1, 4 and 16, whatever the budget gives in the end.

The Kullback-Leibler divergence of x* from the base model is at most log n − (n − 1) / n. (Stiennon et al. give this
figure as exact; Beirami et al. 2024, arXiv 2401.01879, show that it is an upper bound.) Every point of the curve logs
it as `kl_bound`. The model itself does not change, so `drift` is 0.

On held-out prompts as many candidates are drawn and scored as on training prompts, because a best of n needs its
queries wherever it is used. These queries are billed to evaluation (`eval_queries`, `eval_nfe`), because no fine-tuned
method spends budget on prompts that it does not train on. The held-out curve therefore costs more than the budget axis
shows.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from methods.base import EvaluatedRows, SamplingMethod, StepMetrics, micro_batches, on_device
from methods.settings import OURS, Settings, setting
from models.sampler import SamplerSettings


class BestOfNSettings(Settings):
    """The settings of best of n; n itself follows from the budget."""

    micro_batch: int = setting(64, "images drawn at once", source=OURS, scales=True, ge=1)


@dataclass
class Best:
    """The best candidate so far for one evaluated image.

    Attributes:
        seen: number of candidates scored so far (its name is a key in checkpoints).
        reward: reward of the best candidate.
        latents: x_0 `[C, h, w]` of the best candidate.
    """

    seen: int
    reward: float
    latents: Tensor


class BestOfN(SamplingMethod):
    """Draws n candidates for each evaluated image and keeps the best."""

    name = "best-of-n"
    summary = "no training: the best of n images by the reward, n as the budget allows"
    reward_access = "value"
    Settings = BestOfNSettings
    selects = True
    shown = (1, 4, 16)
    settings: BestOfNSettings

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.best: dict[str, dict[int, Best]] = {}  # split -> number of the image -> its best candidate

    @classmethod
    def cost(cls, settings: BestOfNSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        calls = prompts * sampler.rows_per_prediction * sampler.steps
        return {"updates": 0, "reward_queries": prompts, "images": prompts, "nfe": calls}

    @property
    def candidates(self) -> int:
        """n, the number of candidates drawn so far for each image of the training prompts."""
        return self.iteration

    @torch.no_grad()
    def select(self, rows: EvaluatedRows) -> StepMetrics:
        self.iteration += 1
        rewards = torch.cat(
            [self._choose(rows[piece]) for piece in micro_batches(len(rows), self.settings.micro_batch)]
        )
        best = [self.best[rows.split][sample].reward for sample in rows.samples]
        return StepMetrics(
            loss=-sum(best) / len(best),
            reward=float(rewards.mean()),
            gradient_norm=0.0,
            updates=0,
            latest={"candidates": float(self.candidates), "kl_bound": kl_bound(self.candidates)},
        )

    @torch.no_grad()
    def sample(self, rows: EvaluatedRows) -> Tensor:
        if not self.candidates:
            return self._draw(rows, 0)
        for piece in micro_batches(len(rows), self.settings.micro_batch):
            self._choose(rows[piece])
        return torch.stack([self.best[rows.split][sample].latents for sample in rows.samples])

    def _choose(self, rows: EvaluatedRows) -> Tensor:
        """Draws the missing candidates up to n for `rows` and keeps the better ones; returns the new rewards."""
        best = self.best.setdefault(rows.split, {})
        rewards = [torch.empty(0)]
        for candidate in range(best[rows.samples[0]].seen if rows.samples[0] in best else 0, self.candidates):
            latents = self._draw(rows, candidate)
            rewards.append(self.reward(self.policy.decode(latents), rows.prompts).cpu())
            for sample, reward, latent in zip(rows.samples, rewards[-1].tolist(), latents, strict=True):
                if sample not in best or reward > best[sample].reward:
                    best[sample] = Best(0, reward, latent.clone())
                best[sample].seen = candidate + 1
        return torch.cat(rewards)

    def _draw(self, rows: EvaluatedRows, candidate: int) -> Tensor:
        """x_0 of one candidate for each image. Candidate 0 has evaluation's noise, the others the trial's own."""

        def noise(key: int) -> Tensor:
            if candidate == 0:
                return rows.noise(key)
            return self.seeds.noise(f"candidate/{rows.split}", candidate, key, rows.samples, self.policy.state_shape)

        return self.policy.sample(self.policy.start(noise(-1)), self.policy.encode(rows.prompts), noise)

    def state_dict(self) -> dict[str, Any]:
        best = {split: {sample: asdict(b) for sample, b in images.items()} for split, images in self.best.items()}
        return super().state_dict() | {"best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        device = self.policy.device
        self.best = {
            split: {sample: Best(**on_device(b, device)) for sample, b in images.items()}
            for split, images in state["best"].items()
        }


def kl_bound(n: int) -> float:
    """The bound log n − (n − 1) / n on the Kullback-Leibler divergence of best of n from the base model, in nats."""
    return math.log(n) - (n - 1) / n
