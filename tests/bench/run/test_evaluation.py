import pytest
import torch

from bench.run.evaluation import Evaluator, diversity, thumbnail_features
from models.adapter import AdapterSettings
from models.families.stable_diffusion import StableDiffusion
from models.meter import Meter
from models.policy import Policy
from models.sampler import SamplerSettings
from rewards.base import CallableReward
from tests.models.test_policy import perturb

PROMPTS = {"train": ["a cat", "a dog"], "heldout": ["a fox"]}


def evaluator(model, images=2, seed=5, adapter_seed=0, steps=3):
    policy = Policy(
        StableDiffusion.load(str(model)),
        SamplerSettings(4, 1.0, 1.0),
        Meter(),
        AdapterSettings(rank=2, seed=adapter_seed),
    )
    reward = CallableReward(lambda images, prompts: images.mean((1, 2, 3)), name="brightness")

    def score(images, prompts):
        return {"reward": reward(images, prompts), "gold": reward(images, prompts)}

    return Evaluator(policy, SamplerSettings(steps, 1.0, 0.0), PROMPTS, images, seed, score)


def test_one_row_for_each_prompt_and_sample(tiny_model):
    result = evaluator(tiny_model)(trained=False)
    rows = result.rows
    assert set(rows.columns) == {"split", "metric", "prompt", "sample", "value"}
    counts = rows.groupby(["split", "metric"]).size().to_dict()
    assert counts[("train", "reward")] == 4
    assert counts[("heldout", "gold")] == 2
    assert counts[("train", "diversity")] == counts[("train", "drift")] == 2
    assert not rows["value"].isna().any()
    train = rows[(rows.split == "train") & (rows.metric == "reward")]
    assert result.values["train"]["reward"] == pytest.approx(train["value"].mean())


def test_the_same_noise_whatever_the_trials_seed(tiny_model):
    first = evaluator(tiny_model, adapter_seed=0)(trained=False)
    second = evaluator(tiny_model, adapter_seed=1)(trained=False)
    assert first.rows.equals(second.rows), "untrained adapters are the identity, whatever their seed"
    other = evaluator(tiny_model, seed=6)(trained=False)
    assert not first.rows.equals(other.rows)


def test_the_reward_under_another_sampler_is_that_of_its_own_images(tiny_model):
    """On the training prompts, with the noise of evaluation; here the other sampler has more steps."""
    evaluate, longer = evaluator(tiny_model, steps=3), evaluator(tiny_model, steps=5)
    found = evaluate(training_sampler=longer.sampler)
    assert found.values["train"]["training_sampler_reward"] == pytest.approx(longer().values["train"]["reward"])
    assert found.values["train"]["training_sampler_reward"] != pytest.approx(found.values["train"]["reward"])
    assert "training_sampler_reward" not in found.values["heldout"]


def test_drift_is_zero_for_the_identity_and_positive_for_a_trained_adapter(tiny_model):
    evaluate = evaluator(tiny_model)
    # The base is predicted in a smaller batch, so rounding may differ.
    assert evaluate(trained=True).values["train"]["drift"] == pytest.approx(0, abs=1e-10)
    perturb(evaluate.policy)
    assert evaluate(trained=True).values["train"]["drift"] > 0


def test_drift_by_hand_on_one_step(tiny_model):
    """One step, eta 0: drift is the mean squared difference of the two predictions at x_T."""
    evaluate = evaluator(tiny_model, images=1, steps=1)
    policy = evaluate.policy
    perturb(policy)
    state = evaluate.seeds.noise("evaluation/train", 0, -1, [0, 1], policy.state_shape)
    inputs = state, torch.tensor(policy.path.timesteps(SamplerSettings(1)) * 2), policy.encode(PROMPTS["train"])
    with torch.no_grad():
        ours = policy.predict(*inputs).epsilon
    with policy.using("base"):
        base = policy.predict(*inputs).epsilon
    expected = float(((ours - base) ** 2).mean())
    assert evaluate(trained=True).values["train"]["drift"] == pytest.approx(expected, rel=1e-5)


def test_evaluation_costs_nothing_on_the_training_axes(tiny_model):
    evaluate = evaluator(tiny_model)
    evaluate(trained=False)
    book = evaluate.policy.meter.ledger
    assert book.eval_nfe == 6 * 3
    assert book.nfe == book.images == book.decodes == book.reward_queries == book.flops == 0
    assert book.eval_seconds > 0
    assert book.train_seconds == 0


def test_an_image_without_a_score_is_not_averaged_over(tiny_model):
    evaluate = evaluator(tiny_model)
    scores, score = torch.tensor([1.0, torch.nan, 1.0, 1.0]), evaluate.score
    evaluate.score = lambda images, prompts: score(images, prompts) | {"gold": scores[: len(images)]}
    values = evaluate(trained=False).values["train"]
    assert values["gold"] != values["gold"]
    assert values["reward"] == values["reward"]


def test_diversity_by_hand():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(diversity(features, 2), torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert thumbnail_features(torch.rand(2, 3, 64, 64)).norm(dim=1).sub(1).abs().max() < 1e-5
