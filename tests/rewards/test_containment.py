"""What own code of a reward does to what it shares with others is undone."""

import gc
import os
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from rewards.base import CallableReward, EmbeddingReward, Reward, RewardError, features
from rewards.combine import Sum
from rewards.containment import SWITCHES, contained, drawing, restored

PROMPTS = ["a cat", "a dog"]
MARK = 0.997


def images_at(value=MARK, **like):
    return torch.full((2, 3, 4, 4), value, **like)


def mean(images, prompts):
    return images.mean((1, 2, 3))


def clamp(images, prompts):
    return images.clamp_(0, 0.5).mean((1, 2, 3))


def assign(images, prompts):
    images[:] = 0.5
    return images.mean((1, 2, 3))


def data(images, prompts):
    images.data.fill_(0.5)
    return images.mean((1, 2, 3))


def shared_memory(images, prompts):
    images.detach().numpy()[...] = 0.5
    return images.mean((1, 2, 3))


def resized(images, prompts):
    scores = 0.5 * images.detach().sum((1, 2, 3)) / images.detach().sum((1, 2, 3))
    images.detach_().resize_(0)
    return scores


def replaced(images, prompts):
    scores = images.new_full((2,), 0.5)
    images.data = torch.zeros(1)
    return scores


WRITERS = [clamp, assign, data, shared_memory, resized, replaced]


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_reward_writes_into_its_images_no_other_sees(writer):
    images = images_at()
    parts = {"writer": CallableReward(writer), "mean": CallableReward(mean)}
    scores, of_parts = Sum(parts, "both", [1, 1]).explain(images, PROMPTS)
    assert torch.equal(images, images_at())
    assert of_parts["writer"].tolist() == [0.5, 0.5]
    assert of_parts["mean"].tolist() == pytest.approx([MARK, MARK])
    assert scores.tolist() == pytest.approx([MARK + 0.5] * 2)


def test_a_gradient_reaches_the_images_past_a_write():
    """d/dx of mean(clamp(x, 0, ½)) is 1/48 inside the bounds and 0 outside."""
    images = torch.cat([images_at(0.25)[:1], images_at()[:1]]).requires_grad_()
    CallableReward(clamp, differentiable=True)(images, PROMPTS).sum().backward()
    assert images.grad.flatten(1).unique(dim=1).flatten().tolist() == pytest.approx([1 / 48, 0])
    assert images.detach()[1].unique().item() == pytest.approx(MARK)


def test_images_that_are_kept_and_changed_later_are_the_rewards_own():
    kept = []

    def keep(images, prompts):
        for before in kept:
            before.zero_()
        kept.append(images)
        return images.mean((1, 2, 3))

    reward, images = CallableReward(keep), images_at()
    for _ in range(3):
        assert reward(images, PROMPTS).tolist() == pytest.approx([MARK, MARK])


def test_scores_that_are_written_over_later_stay_what_they_were():
    class Buffer(Reward):
        name = "buffer"
        differentiable = False
        memory = torch.zeros(2)

        def score(self, images, prompts):
            return self.memory.add_(1)

    reward = Buffer()
    first = reward(images_at(), PROMPTS)
    assert reward(images_at(), PROMPTS).tolist() == [2, 2]
    assert first.tolist() == [1, 1]


def test_prompts_are_the_rewards_own():
    def shuffle(images, prompts):
        prompts.sort(reverse=True)
        prompts.pop()
        return images.mean((1, 2, 3))

    prompts = list(PROMPTS)
    seen = CallableReward(lambda images, prompts: [float(len(prompts))] * 2, name="seen")
    parts = {"shuffle": CallableReward(shuffle), "seen": seen}
    assert Sum(parts, "both", [0, 1])(images_at(), prompts).tolist() == [2, 2]
    assert prompts == PROMPTS


def test_a_graph_that_only_the_reward_wanted_is_not_handed_on():
    def wants(images, prompts):
        images.requires_grad_()
        return images.mean((1, 2, 3))

    images = images_at()
    assert not CallableReward(wants, differentiable=True)(images, PROMPTS).requires_grad
    assert not images.requires_grad


def test_scores_of_inference_mode_can_stand_in_a_loss():
    """`torch.inference_mode()` is how people write rewards; its tensors cannot be saved for a backward pass."""
    reward = CallableReward(torch.inference_mode()(mean), name="mean")
    weight = torch.ones(2, requires_grad=True)
    (weight * reward(images_at(), PROMPTS)).sum().backward()
    assert weight.grad.tolist() == pytest.approx([MARK, MARK])


def test_what_is_embedded_is_contained_too():
    class Embeds(EmbeddingReward):
        name = "embeds"

        def score(self, images, prompts):
            return images.mean((1, 2, 3))

        def embed(self, images):
            torch.set_default_dtype(torch.float64)
            if images.mean() < 0.1:
                raise ValueError("too dark")
            return nn.functional.normalize(images.clamp_(0, 0.5).flatten(1))

    images = images_at()
    assert features(Embeds(), images).shape == (2, 48)
    assert torch.equal(images, images_at())
    with pytest.raises(RewardError, match=r"Reward 'embeds' raised ValueError in embed\(\): too dark"):
        features(Embeds(), images_at(0.0))


def test_a_reward_that_exits_has_failed():
    def score(images, prompts):
        raise SystemExit(3)

    with pytest.raises(RewardError, match="Reward 'score' raised SystemExit: 3"):
        CallableReward(score)(images_at(), PROMPTS)


# -- global state ----------------------------------------------------------------------------------------------


def precision_by_backend():
    torch.backends.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def benchmark():
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark


def tf32():
    torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32


LEAKS = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "grad mode": lambda: torch.set_grad_enabled(not torch.is_grad_enabled()),
    "no_grad, entered": lambda: torch.no_grad().__enter__(),
    "autocast": lambda: torch.autocast("cpu", torch.float16).__enter__(),
    "autocast of CUDA": lambda: torch.set_autocast_enabled("cuda", True),
    "autocast's dtype": lambda: torch.set_autocast_dtype("cpu", torch.float16),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "cudnn.benchmark": benchmark,
    "cudnn.allow_tf32": tf32,
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "precision by backend": pytest.param(
        precision_by_backend,
        marks=pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9"),
    ),
    "attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "denormals": lambda: torch.set_flush_denormal(True),
    "working directory": lambda: os.chdir("/"),
    "numpy's errors": lambda: np.seterr(all="raise"),
    "torch.manual_seed": lambda: torch.manual_seed(3),
    "torch.rand": lambda: torch.rand(3),
    "numpy.random.seed": lambda: np.random.seed(3),
    "numpy.random.rand": lambda: np.random.rand(3),
    "random.seed": lambda: random.seed(3),
    "random.random": lambda: random.random(),
}  # fmt: skip


def global_state():
    _, keys, *rest = np.random.get_state()
    return (
        [read() for read, _ in SWITCHES], torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        torch.get_rng_state().tolist(), keys.tolist(), rest, random.getstate(), np.geterr(),
    )  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("fails", [False, True], ids=["", "and raises"])
def test_the_global_state_is_as_before(leak, fails):
    with restored():  # so that a failing test spoils no other
        before = global_state()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")

            class Leaky(Reward):
                name = "leaky"
                leaked = False

                def score(self, images, prompts):
                    inside = global_state()
                    leak()
                    self.leaked = global_state() != inside
                    if fails:
                        raise KeyError("broken")
                    return images.mean((1, 2, 3))

            reward = Leaky()
            if fails:
                with pytest.raises(RewardError):
                    reward(images_at(), PROMPTS)
            else:
                assert reward(images_at(), PROMPTS).tolist() == pytest.approx([MARK, MARK])
        assert reward.leaked
        assert global_state() == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_mode_around_a_call_holds_inside_and_after(mode):
    class Asks(Reward):
        name = "asks"
        seen = ()

        def score(self, images, prompts):
            self.seen = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
            self.left = torch.inference_mode()
            self.left.__enter__()  # and never leaves
            return images.mean((1, 2, 3))

    reward = Asks()
    with restored():  # the mode that is never left ends with the object that holds it
        with mode():
            around = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
            reward(images_at(), PROMPTS)
            assert reward.seen == around
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == around
        del reward
        gc.collect()
    assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)


# -- random numbers --------------------------------------------------------------------------------------------


def draw(images, prompts):
    return [torch.rand(()).item() + np.random.rand() + random.random() for _ in prompts]


def test_unseeded_draws_repeat_by_their_key():
    reward = CallableReward(draw)

    def at(*key):
        torch.rand(random.randrange(5))  # what was drawn before does not matter
        with drawing(*key):
            return reward(images_at(), PROMPTS).tolist()

    assert at(0, "reward", 64) == at(0, "reward", 64)
    assert len({tuple(at(seed, "reward", queries)) for seed in (0, 1) for queries in (0, 64)}) == 4
    first, second = at(0, "reward", 64)
    assert first != second


def test_parts_that_draw_do_not_draw_the_same():
    parts = {"one": CallableReward(draw, "one"), "other": CallableReward(draw, "other")}
    with drawing(0):
        _, scores = Sum(parts, "both", [1, 1]).explain(images_at(), PROMPTS)
    assert scores["one"].tolist() != scores["other"].tolist()


def test_outside_a_trial_the_users_seed_decides():
    reward, found = CallableReward(draw), []
    with restored():
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            found.append(tuple(reward(images_at(), PROMPTS).tolist()))
    assert found[0] == found[2] != found[1]


def test_it_is_cheap():
    """Methods ask thousands of times; a millisecond would be felt."""
    from timeit import repeat

    def call():
        with contained("x"):
            pass

    assert min(repeat(call, number=20, repeat=10)) / 20 < 2e-3
