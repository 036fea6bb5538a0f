import pytest
import torch

from methods.common.rollouts import Samples, draw_batch, draw_in_proportion
from models.families.conditioning import join
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "rows_per_image": 0.5, "batch_size": 4}
REGRESSIONS = ["rwr", "rwr-sparse", "raft"]


def samples(rewards, prompts):
    return Samples(prompts, torch.arange(float(len(rewards))).reshape(-1, 1, 1, 1), torch.tensor(rewards))


def test_the_softmax_runs_over_the_samples_of_a_prompt():
    """By hand, at β = 0.5: e^0, e^2, e^4 of the cat's three samples and e^2, e^10 of the dog's two."""
    method = build("rwr", LinearFamily(), temperature=0.5)
    drawn = samples([0.0, 1.0, 5.0, 1.0, 2.0], ["a cat", "a dog", "a dog", "a cat", "a cat"])
    cat, dog = 1 + 7.38906 + 54.59815, 7.38906 + 22026.46579
    expected = [3 / cat, 2 * 7.38906 / dog, 2 * 22026.46579 / dog, 3 * 7.38906 / cat, 3 * 54.59815 / cat]
    torch.testing.assert_close(method.weights(drawn), torch.tensor(expected))


def test_the_softmax_of_a_batch_runs_over_all_samples():
    method = build("rwr", LinearFamily(), temperature=0.5, statistics="batch")
    rewards = torch.tensor([0.0, 1.0, -1.0])
    expected = torch.exp(rewards / 0.5)
    weights = method.weights(samples(rewards.tolist(), ["a cat", "a dog", "a cat"]))
    torch.testing.assert_close(weights, 3 * expected / expected.sum())
    assert float(weights.mean()) == pytest.approx(1)


def test_sparse_keeps_the_best_share_of_each_prompt():
    method = build("rwr-sparse", LinearFamily(), keep_share=0.25)
    drawn = samples([1.0, 5.0, 2.0, 3.0, 9.0, 8.0], ["a cat", "a cat", "a cat", "a cat", "a dog", "a dog"])
    assert method.weights(drawn).tolist() == [0, 1, 0, 0, 1, 0]


def test_draws_are_in_proportion_to_the_weights():
    """A χ² of the counts over 400 seeds; its 99.9 % quantile with three degrees of freedom is 16.3."""
    method, weights = build("rwr", LinearFamily()), torch.tensor([0.5, 0.0, 3.0, 1.0, 1.5])
    counts, draws = torch.zeros(5), 3
    for iteration in range(400):
        method.iteration = iteration
        for row in draw_in_proportion(method, "rows", weights, draws):
            counts[row] += 1
    expected = 400 * draws * weights / weights.sum()
    assert counts[1] == 0
    kept = weights > 0
    assert float(((counts - expected)[kept] ** 2 / expected[kept]).sum()) < 16.3


def test_a_samples_number_of_draws_is_its_share_rounded_up_or_down():
    method, weights = build("rwr", LinearFamily()), torch.tensor([0.5, 0.0, 3.0, 1.0, 1.5])
    drawn = draw_in_proportion(method, "rows", weights, 20)
    share = 20 * weights / weights.sum()
    assert len(drawn) == 20
    assert all(abs(drawn.count(row) - float(share[row])) < 1 for row in range(5))
    assert drawn != sorted(drawn), "in random order"
    equal = draw_in_proportion(method, "rows", torch.ones(4), 8)
    assert sorted(equal) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_last_place_never_falls_on_a_weight_of_zero():
    method = build("rwr", LinearFamily())
    for iteration in range(50):
        method.iteration = iteration
        weights = torch.rand(7, generator=torch.Generator().manual_seed(iteration)) ** 9
        weights[-3:] = 0
        assert max(draw_in_proportion(method, "rows", weights, 1000)) < 4


def training_calls(method):
    """The arguments of the predictions with a gradient, which a step then records."""
    calls = []
    original = method.policy.predict

    def recorded(*inputs):
        if torch.is_grad_enabled():  # not while collecting
            calls.append(inputs)
        return original(*inputs)

    method.policy.predict = recorded
    return calls


def test_only_samples_with_a_weight_are_learned_from():
    """One sample of each prompt is kept, and fills its rows with noise of its own each time."""
    method = build("rwr-sparse", LinearFamily(), keep_share=0.1, **SMALL | {"batch_size": 8, "rows_per_image": 1})
    calls = training_calls(method)
    method.step(PROMPTS)
    states, times, conditionings = ([inputs[index] for inputs in calls] for index in range(3))
    assert len(join(conditionings).tensors[0].unique(dim=0)) == 4
    assert len(torch.cat(states).flatten(1).unique(dim=0)) == 8
    assert len(torch.cat(times).unique()) > 1


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_prediction_that_is_trained_has_the_guidance_of_the_sampler(name, guidance):
    method = build(name, LinearFamily(), sampler=SamplerSettings(2, guidance, 0.0), **SMALL)
    calls = training_calls(method)
    method.step(PROMPTS)
    assert {inputs[3] for inputs in calls} == {guidance}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_the_guidance_of_the_loss_can_be_another(name):
    method = build(name, LinearFamily(), sampler=SamplerSettings(2, 2.0, 0.0), loss_guidance=1.0, **SMALL)
    calls = training_calls(method)
    method.step(PROMPTS)
    assert {inputs[3] for inputs in calls} == {1.0}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_the_trained_rows_a_query_do_not_depend_on_the_size_of_a_round(name):
    settings = build(name, LinearFamily()).settings
    cls, sampler = type(build(name, LinearFamily())), SamplerSettings(20, 1.0, 0.0)
    rates = set()
    for prompts, images in ((16, 8), (32, 8), (8, 32)):
        sized = settings.model_copy(update={"prompts_per_rollout": prompts, "images_per_prompt": images})
        cost = cls.cost(sized, prompts, sampler)
        sampled = cost["images"] * sampler.steps
        rates.add((cost["nfe"] - sampled) / 2 / cost["reward_queries"])
        assert cost["updates"] * settings.batch_size == settings.rows_per_image * cost["images"]
    assert rates == {settings.rows_per_image}


def test_the_buffer_keeps_the_last_rounds():
    method = build("rwr", LinearFamily(), buffer_rollouts=2, **SMALL)
    for _ in range(3):
        method.step(PROMPTS)
    assert len(method.buffer) == 2
    assert all(len(entry.prompts) == 8 for entry in method.buffer)


def test_few_effective_samples_are_warned_of():
    sharp = build("rwr", LinearFamily(), temperature=1e-6, **SMALL | {"batch_size": 64, "rows_per_image": 8})
    wide = build("rwr", LinearFamily(), temperature=1e6, **SMALL | {"batch_size": 64, "rows_per_image": 8})
    assert "4.0 effective samples" in sharp.step(PROMPTS).warnings["effective_samples"]
    assert wide.step(PROMPTS).warnings == {}


def test_a_batch_larger_than_the_buffer_repeats_it_with_other_numbers():
    method = build("rwr", LinearFamily(), **SMALL)
    drawn = draw_batch(method, "test", 3, 8)
    assert len(set(drawn)) == 8
    assert {number % 3 for number in drawn} == {0, 1, 2}
    assert sorted(draw_batch(method, "test", 3, 3)) == [0, 1, 2]
