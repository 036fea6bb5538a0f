"""A sweep becomes trials: their order, what is filled in, and what their identity depends on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import InvalidSweepError
from bench.plan.estimate import estimate
from bench.plan.identity import method_source, modules_of
from bench.plan.planner import resolved_sweep
from bench.plan.protocol import protocol_of
from bench.store.plan_file import describe_run
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep
from bench.sweep.variants import variant_name
from methods import registry
from tests.bench.planned import plan

SWEEPS = Path(__file__).parents[3] / "sweeps"


def trials(path, *overrides):
    return plan(load_sweep(path, None, overrides))


def identities(path, *overrides):
    return {trial.variant: trial.identity for trial in trials(path, *overrides)}


def test_variant_by_seed_interleaved_and_resolved(sweep_file, tiny_model):
    found = trials(sweep_file)
    assert [(trial.variant, trial.seed) for trial in found] == [
        (variant, seed) for seed in (0, 1) for variant in ("base", "alignprop", "ddpo")
    ]
    trial = found[1]
    assert trial.settings["batch_size"] == 2
    assert trial.settings["weight_decay"] == 1e-4, "defaults are filled in"
    assert trial.model == str(tiny_model)
    assert trial.lora.alpha == trial.lora.rank
    assert trial.budget.limit == 8
    assert trial.key == f"alignprop-s0-{trial.identity[:8]}"
    assert type(trial).model_validate_json(trial.model_dump_json()) == trial


def test_a_method_may_have_its_own_training_sampler(sweep_file):
    (base, *_) = trials(sweep_file, "methods=[{name: rwr, settings: {images_per_prompt: 1}, sampler: {eta: 0.5}}]")
    assert (base.sampler.steps, base.sampler.guidance, base.sampler.eta) == (20, 1.0, 0.5), "RWR's own, one key changed"
    (alignprop, *_) = trials(sweep_file, "methods=[{name: alignprop, settings: {batch_size: 2}}]")
    assert alignprop.sampler.steps == 3, "the sweep's"


@pytest.mark.parametrize(
    "override",
    [
        "name=renamed",
        "description=other words",
        "methods.alignprop.variant=renamed",
        "seeds=[4]",
        "retries=3",
        "target=2.5",
        "resources.cpus=2",
        "methods.alignprop.settings.weight_decay=1e-4",
        "lora.rank=4",
    ],
)
def test_identity_ignores_names_and_written_out_defaults(sweep_file, override):
    before, after = identities(sweep_file), identities(sweep_file, override)
    assert sorted(before.values()) == sorted(after.values())


@pytest.mark.parametrize(
    "override",
    [
        "methods.alignprop.settings.learning_rate=2e-3",
        "methods.alignprop.sampler.steps=4",
        "lora.rank=8",
        "budget.reward_queries=9",
        "budget.seconds=100",
        "evaluate.every=2",
        "evaluate.seed=5",
        "prompts.train=[a cat, a dog]",
        "prompts.heldout=null",
        "evaluate.gold=colourfulness",
        "resources.precision=bf16",
    ],
)
def test_identity_follows_what_decides_the_numbers(sweep_file, override):
    assert identities(sweep_file)["alignprop"] != identities(sweep_file, override)["alignprop"]


def test_one_method_s_setting_leaves_the_others(sweep_file):
    before = identities(sweep_file)
    after = identities(sweep_file, "methods.ddpo.settings.learning_rate=5e-3")
    assert {name for name in before if before[name] != after[name]} == {"ddpo"}


def test_a_reward_file_counts_by_its_content_not_its_place(sweep_file, tmp_path):
    source = "def score(images, prompts):\n    return images.mean((1, 2, 3))\n"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(source)
    only_base = "methods=[{name: base}]"
    first = identities(sweep_file, only_base, "reward=a/mine.py:score")
    assert first == identities(sweep_file, only_base, "reward=b/mine.py:score")
    (tmp_path / "b" / "mine.py").write_text(source.replace("mean", "amax"))
    assert first != identities(sweep_file, only_base, "reward=b/mine.py:score")


def compose(path, reward, *more):
    return trials(path, "methods=[{name: base}]", f"reward={reward}", *more)[0]


def test_a_composed_reward_is_one_reward_with_parts(sweep_file):
    trial = compose(sweep_file, "{sum: [colourfulness, {clip: emoji-aesthetic, max: 6, weight: 0.5}]}")
    assert trial.reward.label == "colourfulness+clipped-emoji-aesthetic"
    assert trial.reward.differentiable
    assert set(trial.weights) == {"model", "emoji-aesthetic"}, "weights of the parts are on record"


def test_what_decides_a_composed_reward_decides_the_identity(sweep_file, tmp_path):
    (tmp_path / "mine.py").write_text("def score(images, prompts): return images.mean((1, 2, 3))\n")
    rewards = [
        "{sum: [colourfulness, 'mine.py:score']}",
        "{sum: [{name: colourfulness, weight: 2}, 'mine.py:score']}",
        "{ensemble: [colourfulness, 'mine.py:score']}",
        "{ensemble: [colourfulness, 'mine.py:score'], k: 2}",
        "{clip: colourfulness, max: 1}",
        "{clip: colourfulness, max: 2}",
    ]
    found = [compose(sweep_file, reward).identity for reward in rewards]
    assert len(set(found)) == len(rewards)
    for same in (
        ("{sum: [{name: colourfulness, weight: 1}, 'mine.py:score']}", rewards[0]),
        ("{ensemble: [colourfulness, 'mine.py:score'], k: 1}", rewards[2]),
        ("{http: 'http://localhost/x', timeout: 300, retries: 9, batch: 4}", "{http: 'http://localhost/x'}"),
    ):
        assert len({compose(sweep_file, reward).identity for reward in same}) == 1, same
    named = "{sum: [{name: colourfulness, label: other}, 'mine.py:score'], label: mixed}"
    assert compose(sweep_file, named).identity == found[0], "labels are names"
    (tmp_path / "mine.py").write_text("def score(images, prompts): return images.amax((1, 2, 3))\n")
    assert compose(sweep_file, rewards[0]).identity != found[0], "a part's source counts"


def test_files_in_options_are_the_sweeps(sweep_file, tmp_path):
    """Trials run in another folder than the one the sweep was written in."""
    (tmp_path / "mine.py").write_text(
        "from rewards.base import Reward\nclass Table(Reward):\n    name = 'table'\n"
        "    def __init__(self, path, mode='r'): self.text = open(path, mode).read()\n"
        "    def score(self, images, prompts): return images.mean((1, 2, 3))\n"
    )
    (tmp_path / "table.txt").write_text("x")
    spec = compose(sweep_file, "{sum: [{name: 'mine.py:Table', path: table.txt}]}").reward.spec
    assert spec.parts[0].options["path"] == str(tmp_path / "table.txt")


def test_a_scales_prompts_are_its_own(sweep_file, tmp_path):
    (tmp_path / "a.csv").write_text("Prompts\na cat\na dog\na fox\n")
    (tmp_path / "b.json").write_text('["a cow", "a pig"]')
    text = sweep_file.read_text().replace("[a cat, a dog, a fox]", "{file: a.csv, column: Prompts, limit: 1}")
    sweep_file.write_text(text + "scales:\n  paper:\n    prompts: {train: {file: b.json}}\n")
    assert plan(load_sweep(sweep_file, "paper"))[0].prompts_train == ("a cow", "a pig")


def test_the_stored_sweep_reads_again_as_the_same(sweep_file, tmp_path):
    (tmp_path / "mine.py").write_text("def score(images, prompts): return images.mean((1, 2, 3))\n")
    reward = "{sum: [{name: colourfulness, weight: 0.5}, {clip: 'mine.py:score', min: 0}]}"
    loaded = load_sweep(sweep_file, None, ["methods=[{name: base}]", f"reward={reward}"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stored = elsewhere / "sweep.yaml"
    stored.write_text(json.dumps(resolved_sweep(loaded)))
    assert plan(load_sweep(stored))[0].identity == plan(loaded)[0].identity


def test_identity_follows_the_modules_that_a_method_is_made_of(tmp_path, monkeypatch):
    assert "methods.base" in modules_of("methods.ddpo:DDPO")
    assert "methods.common.advantages" in modules_of("methods.ddpo:DDPO")
    assert not any("alignprop" in name for name in modules_of("methods.ddpo:DDPO"))
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text(
        "from methods.ddpo import DDPO\ndef late():\n    import not_installed\n    from their_package import parts\n"
    )
    (package / "parts.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    reference = "their_package.method:Theirs"
    assert {"their_package.parts", "methods.ddpo", "methods.common.advantages"} <= set(modules_of(reference))
    (package / "more.py").write_text("from . import rest\n")
    (package / "rest.py").write_text("from .parts import SIZE\n")
    (package / "relative.py").write_text("from .more import rest\nfrom methods.base import Method\n")
    relative = set(modules_of("their_package.relative:Theirs"))
    assert {f"their_package.{name}" for name in ("more", "rest", "parts")} < relative
    before = method_source(reference)
    assert before == method_source(reference)
    (package / "parts.py").write_text("SIZE = 2\n")
    assert before != method_source(reference)


def test_a_file_beside_the_sweep_cannot_shadow_our_packages(sweep_file, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')\n")
    (tmp_path / "mine.py").write_text(
        "import models.sampler\ndef score(images, prompts):\n    return [0.0] * len(prompts)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert trials(sweep_file, "methods=[{name: base}]", "reward=mine.py:score")[0].reward.label == "score"


def test_a_method_from_a_file(sweep_file, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from methods.no_training import NoTraining\nclass Mine(NoTraining):\n    name = 'mine'\n    summary = 'mine'\n"
    )
    (trial, *_) = trials(sweep_file, "methods=[{name: 'mine.py:Mine'}]")
    assert trial.variant == "mine"
    assert trial.reference == f"{tmp_path / 'mine.py'}:Mine"


def test_the_stored_sweep_plans_the_same_trials_from_anywhere(sweep_file, tmp_path):
    (tmp_path / "mine.py").write_text("def score(images, prompts):\n    return [0.0] * len(prompts)\n")
    (tmp_path / "words.txt").write_text("# mine\na bee\n\na bat\n")
    loaded = load_sweep(
        sweep_file,
        None,
        [
            "methods=[{name: base}, {name: ddpo, settings: {prompts_per_rollout: 1, images_per_prompt: 2}}]",
            "reward=mine.py:score",
            "prompts.train=words.txt",
            "evaluate.rewards=[colourfulness]",
        ],
    )
    found = plan(loaded)
    run = RunFolder(tmp_path / "elsewhere" / "run")
    run.write_plan(resolved_sweep(loaded), found)
    assert [trial.key for trial in plan(load_sweep(run.sweep_path))] == [trial.key for trial in found]


def test_what_is_evaluated_of_the_adapter_is_in_identity_protocol_and_report_and_what_is_kept_is_not(sweep_file):
    changes = {"average": ["evaluate.average=0.9"], "scale": ["evaluate.scale=0.5"], "keep": ["evaluate.keep=all"]}
    loaded = load_sweep(sweep_file)
    trials = {"": plan(loaded)[0]}
    trials |= {name: plan(load_sweep(sweep_file, None, change))[0] for name, change in changes.items()}
    assert len({trial.identity for trial in trials.values()}) == 3
    assert trials["keep"].identity == trials[""].identity
    assert protocol_of(trials["keep"]) == protocol_of(trials[""])
    texts = {}
    for name, trial in trials.items():
        texts[name] = describe_run([trial], loaded.sweep, "bench run", "inline", 1)["evaluation"]
        assert (protocol_of(trial) == protocol_of(trials[""])) == (texts[name] == texts[""])
    assert "prompts, of a moving average of the adapter (decay 0.9);" in texts["average"]
    assert "prompts, at 0.5 of the adapter’s strength;" in texts["scale"]


@pytest.mark.parametrize(
    ("chosen", "pasted"),
    [
        (["--out", "runs/mine here"], "--out 'runs/mine here'"),
        (["--out", "memory://bucket/runs/x", "--set", "seeds=[0]"], "--set 'seeds=[0]' --out memory:///bucket/runs/x"),
        ([], ""),
    ],
)
def test_the_line_to_run_says_where_to(cli, sweep_file, tmp_path, monkeypatch, chosen, pasted):
    monkeypatch.chdir(tmp_path)
    line = cli("plan", sweep_file, *chosen).out.splitlines()[-1]
    assert line == f"run it: bench run {sweep_file} {pasted}".rstrip()


def test_plan_prints_what_is_known_beforehand(cli, sweep_file):
    answer = cli("plan", sweep_file)
    assert answer.code == 0
    assert "6 trials, each 8 reward_queries" in answer.out
    import json

    whole = "methods.ddpo.settings.timestep_fraction=1.0"
    rows = json.loads(cli("plan", sweep_file, "--set", whole, "--json").out)
    ddpo = next(row for row in rows if row["variant"] == "ddpo")["estimate"]
    # 4 images a step, 3 sampling steps, and a forward and a backward for each of them: 36 rows; the budget allows two.
    assert ddpo["steps"] == 2
    assert ddpo["nfe"] == 2 * 4 * 3 * 3
    # Points at 0, 4 and 8 queries; 4 prompts, 2 images each; 3 of the prompts twice more, under ddpo's own sampler.
    assert (ddpo["points"], ddpo["eval_images"]) == (3, 24 + 12)


def test_settings_that_do_not_fit_the_sampler_are_refused_before_anything_runs(sweep_file):
    with pytest.raises(InvalidSweepError, match=r"tiny\.yaml:\d+: methods\[2\]: ddpo: .*eta must be above 0"):
        trials(sweep_file, "methods.ddpo.sampler.eta=0")


def test_what_a_method_is_made_of_is_read_without_importing_it():
    script = (
        "import sys; from bench.plan.identity import modules_of; found = modules_of('methods.peers.trl_ddpo:TRLDDPO'); "
        "assert 'methods.peers.pipeline' in found, found; assert not {'trl', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_evaluation_may_look_at_fewer_prompts_than_training_uses(sweep_file):
    everything, fewer = trials(sweep_file)[0], trials(sweep_file, "evaluate.prompts=1")[0]
    assert everything.evaluated["train"] == everything.prompts_train
    assert fewer.prompts_train == everything.prompts_train
    assert all(len(prompts) == 1 for prompts in fewer.evaluated.values())
    assert estimate(fewer).eval_images < estimate(everything).eval_images
    assert fewer.identity != everything.identity


def test_the_papers_scale_has_settings_for_every_method_that_trains():
    """Each accepted by its method; where the main sweep has the same method, the same ones."""
    small = ["model=emoji-v1", "reward=colourfulness"]
    families, parity = (load_sweep(SWEEPS / f"{name}.yaml", "paper", small) for name in ("families", "parity"))
    peers = {name for name in registry.names() if registry.load(name).own_trainer}
    assert {spec.name for spec in families.sweep.methods} == set(registry.names()) - peers
    assert peers < {spec.name for spec in parity.sweep.methods}
    written = {variant_name(spec.name, spec.variant): spec for spec in families.sweep.methods}
    for name, spec in written.items():
        assert bool(spec.settings) == registry.load(spec.name).trains, name
    for spec in load_sweep(SWEEPS / "aesthetic.yaml", "paper").sweep.methods:
        same = written[variant_name(spec.name, spec.variant)]
        assert (same.settings, same.sampler) == (spec.settings, spec.sampler)
    for sweep in ("alignment", "counting", "compressibility"):
        there = ["model=emoji-v1", "reward=colourfulness", "evaluate.rewards=[]", "prompts.train=animals"]
        scaled = load_sweep(SWEEPS / f"{sweep}.yaml", "paper", [*there, "prompts.heldout=null"])
        assert len(plan(scaled)) == 15
        for spec in scaled.sweep.methods:
            same = written[variant_name(spec.name, spec.variant)]
            of_the_reward = {"loss_scale", "target_reward"}  # |r - 10| is for aesthetics
            theirs = {key: value for key, value in same.settings.items() if key not in of_the_reward}
            assert theirs.items() <= spec.settings.items()
            assert spec.settings.keys() - theirs.keys() <= of_the_reward
            assert spec.sampler == same.sampler
    assert len(plan(families)) == 3 * len(written)


@pytest.mark.parametrize("scale", [None, "paper"])
def test_the_sweep_of_parity_gives_ours_and_trls_equal_settings(scale):
    parity = load_sweep(SWEEPS / "parity.yaml", scale, ["model=emoji-v1", "reward=colourfulness"])
    written = {variant_name(spec.name, spec.variant): spec for spec in parity.sweep.methods}
    for name, peer in (("alignprop-per-step", "trl-alignprop"), ("ddpo", "trl-ddpo")):
        specs = written[name], written[peer]
        ours, theirs = (registry.load(spec.name).Settings(**spec.settings).model_dump() for spec in specs)
        # Ours rescales the ratio's clip to the latent: from 16,384 dimensions to the embedded model's 1,024.
        clips = ours.pop("clip_range", 0.0) * (1 if scale else 16), theirs.pop("clip_range", 0.0)
        assert clips[0] == pytest.approx(clips[1])
        shared = set(ours) & set(theirs)
        assert {key: theirs[key] for key in shared} == {key: ours[key] for key in shared}
        assert specs[0].sampler == specs[1].sampler


def one_image(method, settings="", prompts="[a cat, a dog, a fox]", queries=32):
    text = f"{{name: {method}, settings: {{images_per_prompt: 1, {settings}}}}}"
    return (f"methods=[{text}]", f"prompts.train={prompts}", f"budget.reward_queries={queries}", "prompts.heldout=null")


ALONE = "a rollout is one image"
FUTILE = {
    "ddpo group": (
        one_image("ddpo", "prompts_per_rollout: 3, statistics: group"),
        "3 of 3 training prompts, so a group is one image",
    ),
    "ddpo of a part": (
        one_image("ddpo", "prompts_per_rollout: 2, statistics: group"),
        "write images_per_prompt: 2 or more, or statistics",
    ),
    "ddpo of one": (one_image("ddpo", "prompts_per_rollout: 1, statistics: group"), "1 of 3 training prompts"),
    "ddpo batch": (one_image("ddpo", "prompts_per_rollout: 1, statistics: batch"), ALONE),
    "ddpo buffer": (one_image("ddpo", "prompts_per_rollout: 1, buffer_size: 8"), "buffer_size: 8"),
    "ddpo count": (one_image("ddpo", "prompts_per_rollout: 1"), "draws it 11 times at most"),
    "rwr": (one_image("rwr", "prompts_per_rollout: 3"), "so a group is one image"),
    "rwr batch": (one_image("rwr", "prompts_per_rollout: 1, statistics: batch"), ALONE),
    "rwr-sparse": (one_image("rwr-sparse", "prompts_per_rollout: 3"), "keeps the only image of a prompt"),
    "dpok": (one_image("dpok", "prompts_per_rollout: 1", queries=1), "the budget draws one image"),
    "trl-ddpo": (one_image("trl-ddpo", "prompts_per_rollout: 1, statistics: batch"), ALONE),
    "d3po": (one_image("d3po"), "a pair takes two images"),
    "dpo": (one_image("dpo"), "a pair takes two images"),
    "nft": (one_image("nft"), "images_per_prompt"),
    "raft": (one_image("raft"), "images_per_prompt"),
    "sparse all": (
        ("methods=[{name: rwr-sparse, settings: {keep_share: 1}}]",),
        "keeps all of the 16 images",
    ),
    "grid": (("methods=[{name: rwr, grid: {images_per_prompt: [1, 2]}, settings: {prompts_per_rollout: 3}}]",), "of 3"),
    "least cut": (one_image("ddpo", "statistics: batch", queries=1), "1 is less than one step of ddpo (2)"),
}


@pytest.mark.parametrize("case", FUTILE)
def test_what_teaches_nothing_whatever_the_reward_is_refused(case, cli, sweep_file):
    overrides, words = FUTILE[case]
    answer = cli("plan", sweep_file, *(part for override in overrides for part in ("--set", override)))
    assert answer.code == 2, answer.out
    assert words in answer.err
    assert answer.err.startswith(f"error: {sweep_file}:") or "--set" in answer.err
    assert len(answer.err.strip().splitlines()) <= 3


@pytest.mark.parametrize(
    "overrides",
    [
        one_image("ddpo", "prompts_per_rollout: 4, statistics: group"),  # a prompt is drawn twice
        one_image("ddpo", "prompts_per_rollout: 8, statistics: group", "[a cat]"),
        one_image("ddpo", "prompts_per_rollout: 3, statistics: batch"),
        one_image("ddpo", "prompts_per_rollout: 3"),
        one_image("ddpo", "prompts_per_rollout: 1, min_count: 11"),
        one_image("rwr", "prompts_per_rollout: 3, statistics: batch"),
        one_image("dpok", "prompts_per_rollout: 1"),
    ],
)
def test_one_image_a_prompt_is_allowed_where_something_can_be_learned(overrides, sweep_file):
    assert trials(sweep_file, *overrides)
