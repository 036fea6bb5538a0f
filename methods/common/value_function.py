"""A value function V(x_t, c, t): the expected reward of a trajectory that is at x_t.

The network is DPOK's (google-research/dpok, reward_model.py): latent and pooled prompt embedding go through three
layers of 256 units, each scaled by a vector that depends on the timestep, to one number. Ours pools by the mean over
tokens, where the authors' code has CLIP's projected text feature. Its scales begin at 1 and its output at the mean
reward, where the code draws both at random. Its cost is negligible compared with the denoiser's and is not metered.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.noise import SeedStream

WIDTH = 256
LAYERS = 3


class ValueNetwork(nn.Module):
    """DPOK's value network, with initial weights from a seed stream.

    Args:
        inputs: number of dimensions of a latent and of a pooled prompt embedding together.
        steps: T, the number of steps, each of which has its own scales.
        seeds: seed stream of the initial weights (Xavier; scales begin at 1, the output at 0).
    """

    def __init__(self, inputs: int, steps: int, seeds: SeedStream):
        super().__init__()
        # Without their own initialisation the layers leave torch's global random state alone.
        layers = []
        for index, (before, after) in enumerate(pairwise([inputs, *[WIDTH] * LAYERS, 1])):
            layer = nn.utils.skip_init(nn.Linear, before, after)
            weight = seeds.noise("value", 0, 0, [index], (after, before))[0]
            layer.weight.data = (2 / (before + after)) ** 0.5 * weight
            layer.bias.data.zero_()
            layers.append(layer)
        layers[-1].weight.data.zero_()
        self.layers = nn.ModuleList(layers)
        self.scales = nn.Parameter(torch.ones(LAYERS, steps, WIDTH))

    def forward(self, states: Tensor, pooled: Tensor, steps: Tensor) -> Tensor:
        """V `[N]` of states `[N, C, h, w]` with pooled embeddings `[N, D]` at the steps numbered `steps` `[N]`."""
        hidden = torch.cat([states.flatten(1), pooled], 1)
        for layer, scale in zip(self.layers[:-1], self.scales, strict=True):
            hidden = torch.relu(scale[steps] * layer(hidden))
        return self.layers[-1](hidden)[:, 0]


class ValueFunction:
    """The value network, its AdamW, and the latest rows to learn from.

    Args:
        network: the network V.
        learning_rate: learning rate of AdamW.
        memory: number of latest rows that are remembered.
    """

    def __init__(self, network: ValueNetwork, learning_rate: float, memory: int):
        self.network = network
        self.memory = memory
        self.rows: dict[str, Tensor] = {}
        self._adamw = torch.optim.AdamW(network.parameters(), lr=learning_rate)

    @torch.no_grad()
    def __call__(self, states: Tensor, pooled: Tensor, steps: Tensor) -> Tensor:
        """V `[N]` of states `[N, ...]` under pooled prompts `[N, D]` at the steps numbered `steps` `[N]`."""
        return self.network(states, pooled, steps)

    def remember(self, states: Tensor, pooled: Tensor, steps: Tensor, rewards: Tensor) -> None:
        """Adds rows and their rewards `[N]` to those remembered, and drops the oldest rows beyond `memory`."""
        if not self.rows:
            # Unlike DPOK's rewards, ours need not be centred on zero: V begins at the mean of the first rollout.
            nn.init.constant_(self.network.layers[-1].bias, float(rewards.mean()))  # type: ignore[arg-type]
        new = {"states": states, "pooled": pooled, "steps": steps, "rewards": rewards}
        self.rows = {
            name: torch.cat([self.rows[name], value] if self.rows else [value])[-self.memory :]
            for name, value in new.items()
        }

    def learn(self, chosen: list[int]) -> float:
        """Does one AdamW update on the mean of (V − r)² over the remembered rows `chosen`; returns this loss."""
        batch = {name: value[chosen] for name, value in self.rows.items()}
        with torch.enable_grad():
            value = self.network(batch["states"], batch["pooled"], batch["steps"])
            loss = ((value - batch["rewards"]) ** 2).mean()
            self._adamw.zero_grad(set_to_none=True)
            loss.backward()
        self._adamw.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "adamw": self._adamw.state_dict(), "rows": dict(self.rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._adamw.load_state_dict(state["adamw"])
        self.rows = {name: value.to(self.network.scales.device) for name, value in state["rows"].items()}
