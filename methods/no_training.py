"""`base`: samples from the model without training, the zero line of a report."""

import torch
from torch import Tensor

from methods.base import EvaluatedRows, SamplingMethod
from methods.settings import Settings


class NoTraining(SamplingMethod):
    """Samples from the base model and trains nothing."""

    name = "base"
    summary = "no training at all: the model as it is, the zero line of every report"
    reward_access = "value"
    Settings = Settings

    @torch.no_grad()
    def sample(self, rows: EvaluatedRows) -> Tensor:
        start = self.policy.start(rows.noise(-1))
        return self.policy.sample(start, self.policy.encode(rows.prompts), rows.noise)
