import torch

from methods.common.rollouts import Samples
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {"prompts_per_rollout": 4, "rows_per_image": 0.5, "batch_size": 4}


def test_the_best_of_k_is_kept_for_each_draw_of_a_prompt():
    method = build("raft", LinearFamily(), images_per_prompt=3, **SMALL)
    rewards = torch.tensor([1.0, 3.0, 2.0, 9.0, 7.0, 8.0])
    latents = torch.arange(6.0).reshape(6, 1, 1, 1)
    kept = method.keep(Samples(["a cat"] * 3 + ["a dog"] * 3, latents, rewards))
    assert kept.prompts == ["a cat", "a dog"]
    assert kept.latents.flatten().tolist() == [1, 3]
    assert method.weights(kept).tolist() == [1, 1]


def test_the_buffer_holds_the_best_only():
    method = build("raft", LinearFamily(), images_per_prompt=2, buffer_rollouts=2, **SMALL)
    for _ in range(3):
        method.step(PROMPTS)
    assert [entry.prompts for entry in method.buffer] == [PROMPTS, PROMPTS]
