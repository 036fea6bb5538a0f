"""What a run says of how its numbers are measured."""

from types import SimpleNamespace

import pytest

from bench.build.trial_spec import RewardRef
from bench.plan.protocol import features_of, measures_of


def ref(label, embeds):
    return RewardRef.model_construct(label=label, fingerprint=f"{label:0<64}", embeds=embeds)


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({"reward": ref("size", False)}, "16 × 16 thumbnails"),
        ({"reward": ref("aesthetic", True)}, "features of aesthetic"),
        ({"reward": ref("aesthetic", True), "gold": ref("judge", True)}, "features of judge"),
        ({"reward": ref("aesthetic", True), "gold": ref("rule", False)}, "features of aesthetic"),
    ],
)
def test_diversity_names_the_reward_whose_features_it_takes(rewards, words):
    trial = SimpleNamespace(reward=rewards["reward"], gold=rewards.get("gold"), rewards=[])
    assert features_of(trial) == words
    seen_by = measures_of(trial)["diversity"]
    assert seen_by == ("thumbnails" if "thumbnails" in words else f"{words.removeprefix('features of '):0<64}"[:16])
