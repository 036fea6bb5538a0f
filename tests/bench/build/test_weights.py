"""`bench weights` on a hub cache built by hand, with right and with damaged files; no network."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from bench.build.plugins import build_reward, resolve_model
from bench.build.weights import checking, known, needs
from bench.commands import weights as verbs
from bench.sweep.schema import RewardSpec
from bench.sweep.shipped import sweep_files
from models.loading import load_components, model_hash
from rewards import registry
from rewards.published.laion import LaionAesthetic
from rewards.published.weights import Weights

CLIP, HEAD = "openai/clip-vit-large-patch14", "trl-lib/ddpo-aesthetic-predictor"
MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
COMMIT = "5" * 40


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # What the package knows of the published files would not fit small ones.
    needs = [replace(need, sha256={}) for need in LaionAesthetic.needs]
    monkeypatch.setattr(LaionAesthetic, "needs", tuple(needs))
    monkeypatch.setitem(known.KNOWN_MODELS, MODEL, replace(known.KNOWN_MODELS[MODEL], sha256={}))
    return folder


@pytest.fixture
def put(cache):
    """Puts a file into the cache as the hub does: a blob named by its hash, and a link to it in a snapshot."""

    def call(repository, name, content, blob=None):
        large = name.endswith((".safetensors", ".pth"))
        home = cache / f"models--{repository.replace('/', '--')}"
        target = home / "blobs" / (blob or (sha256 if large else git_sha1)(content))
        link = home / "snapshots" / COMMIT / name
        for folder in (target.parent, link.parent, home / "refs"):
            folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        (home / "refs" / "main").write_text(COMMIT)
        return link

    return call


@pytest.fixture
def aesthetic(put):
    """All that `aesthetic` needs, undamaged: name -> link."""
    files = [
        (CLIP, "config.json", b"{}"),
        (CLIP, "model.safetensors", b"tower"),
        (HEAD, "aesthetic-model.pth", b"head"),
    ]
    return {name: put(repository, name, content) for repository, name, content in files}


def rows_of(answer, code=0):
    assert answer.code == code, answer
    return json.loads(answer.out)


def refused(answer):
    """Exit code 2 and an error of one to three lines, perhaps after what is being fetched; what it says."""
    assert answer.code == 2, answer
    lines = [line for line in answer.err.strip().splitlines() if not line.startswith("fetching ")]
    assert 1 <= len(lines) <= 3, answer.err
    assert lines[0].startswith("error: ")
    return " ".join(lines)


# -- list


def test_list_says_what_is_needed_and_that_it_is_not_here(cli):
    rows = rows_of(cli("weights", "list", "--json"))
    clip = next(row for row in rows if row["repository"] == CLIP)
    assert (clip["name"], clip["kind"], clip["files"]) == ("aesthetic", "reward", ["config.json", "model.safetensors"])
    assert clip["size"] == 1_710_540_580
    assert "MIT" in clip["licence"]
    assert (clip["cached"], clip["complete"]) == (None, False)
    model = next(row for row in rows if row["name"] == MODEL)
    assert (model["kind"], model["repository"], model["complete"]) == ("model", MODEL, False)
    emoji = next(row for row in rows if row["name"] == "emoji-v1")
    assert (emoji["shipped"], emoji["complete"], emoji["repository"]) == (True, True, None)
    assert Path(emoji["cached"], "model_index.json").is_file()
    assert "colourfulness" not in {row["name"] for row in rows}


def test_list_in_a_pipe_is_a_line_a_set_of_files(cli, cache, put):
    put(CLIP, "config.json", b"{}")
    put(HEAD, "aesthetic-model.pth", b"head")
    answer = cli("weights", "list")
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert max(map(len, lines)) <= 200
    clip = next(line for line in lines if CLIP in line)
    assert "config.json, model.safetensors; 1.7 GB, MIT" in clip
    assert clip.rstrip().endswith("1 of 2 files")
    head = next(line for line in lines if HEAD in line)
    assert f"sha256 {sha256(b'head')[:8]}" in head
    assert head.rstrip().endswith(" here")
    assert next(line for line in lines if MODEL in line).rstrip().endswith("not here")
    assert next(line for line in lines if "emoji-v1" in line).rstrip().endswith("shipped")
    assert f"cache: {cache}" in lines


@pytest.mark.parametrize("columns", [80, 120])
def test_list_on_a_terminal_breaks_no_name(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(verbs.sys.stdout, "isatty", lambda: True)
    table = re.sub(r"\x1b\[[0-9;]*m", "", cli("weights", "list").out.split("cache:")[0])
    assert max(map(len, table.splitlines())) <= columns
    for name in ("aesthetic ", "emoji-aesthetic-gold", CLIP, HEAD, "config.json, model.safetensors", "1.7 GB, MIT"):
        assert name in table


def test_list_says_where_files_are(cli, aesthetic):
    clip, head = [row for row in rows_of(cli("weights", "list", "--json")) if row["name"] == "aesthetic"]
    assert (clip["complete"], clip["cached"]) == (True, str(aesthetic["config.json"].parent))
    assert (head["complete"], head["cached"]) == (True, str(aesthetic["aesthetic-model.pth"]))
    assert clip["sha256"] == {"model.safetensors": sha256(b"tower")}


def test_a_reward_that_cannot_be_imported_is_named_and_the_others_are_listed(cli, monkeypatch):
    monkeypatch.setitem(registry._BUILT_IN, "broken", registry.Entry("rewards.no_such:Thing", "broken"))
    answer = cli("weights", "list", "--json")
    assert {"aesthetic", "emoji-count"} <= {row["name"] for row in rows_of(answer)}
    assert answer.err.startswith("left out: reward broken, as it cannot be imported: ")
    assert "rewards.no_such" in answer.err
    answer = cli("weights", "fetch", "broken")
    assert answer.code == 2
    assert "\nerror: there is no module 'rewards.no_such'" in answer.err
    assert "needs no weights" not in answer.err


def test_models_are_those_of_the_shipped_sweeps(cli):
    models = [row["name"] for row in rows_of(cli("weights", "list", "--json")) if row["kind"] == "model"]
    sweeps = [path.read_text() for path in sweep_files().values()]
    named = {name for text in sweeps for name in re.findall(r"\bmodel: ([\w.-]+/[\w.-]+)", text)}
    assert named == {name for name in models if "/" in name} == set(known.KNOWN_MODELS)


# -- names


@pytest.mark.parametrize("verb", ["fetch", "verify"])
@pytest.mark.parametrize(("name", "meant"), [("aestetic", "aesthetic"), ("emoji-v2", "emoji-v1")])
def test_an_unknown_name_gets_a_suggestion(cli, verb, name, meant):
    answer = cli("weights", verb, name)
    assert f"no reward or model {name!r} did you mean {meant}?" in " ".join(refused(answer).split())
    assert answer.out == ""


def test_names_that_need_nothing(cli):
    answer = cli("weights", "fetch", "colourfulness", "emoji-v1", "emoji-animal")
    assert answer.code == 0
    assert answer.err == "colourfulness needs no weights\n"
    assert answer.out == "emoji-v1 ships with the package\nemoji-animal ships with the package\n"


@pytest.mark.parametrize("arguments", [[], ["lst"], ["fetch"]])
def test_usage_errors(cli, arguments):
    assert "bench weights" in refused(cli("weights", *arguments))


# -- fetch


def test_offline_fetch_says_what_and_where_to(cli, cache):
    text = refused(cli("weights", "fetch", "aesthetic"))
    assert f"{CLIP} cannot be fetched: HF_HUB_OFFLINE is set" in text
    assert f"copy the hub cache there into {cache}, or name local files, " in text
    assert "`reward: {name: aesthetic, model: PATH}`" in text
    text = refused(cli("weights", "fetch", MODEL))
    assert f"{MODEL} cannot be fetched: HF_HUB_OFFLINE is set" in text
    assert "`model: FOLDER`" in text


def test_fetch_of_what_is_here_does_nothing(cli, aesthetic):
    answer = cli("weights", "fetch", "aesthetic")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.count("is here already: ") == 2
    assert str(aesthetic["aesthetic-model.pth"]) in answer.out


@pytest.fixture
def hub(monkeypatch, put):
    """A hub in memory: (repository, file) -> content; what was downloaded is in `asked`."""
    files, asked = {}, []

    def model_info(self, repository, timeout):
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=name) for owner, name in files if owner == repository]
        )

    def snapshot_download(repository, allow_patterns):
        for owner, name in files:
            if owner == repository and any(fnmatch(name, pattern) for pattern in allow_patterns):
                asked.append(name)
                link = put(repository, name, files[repository, name])
        return str(link.parents[name.count("/")])

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return SimpleNamespace(files=files, asked=asked)


def test_fetch_of_a_reward(cli, hub, put):
    put(CLIP, "config.json", b"{}")
    hub.files |= {(CLIP, "config.json"): b"{}", (CLIP, "model.safetensors"): b"tower", (CLIP, "tf_model.h5"): b"tf"}
    hub.files |= {(HEAD, "aesthetic-model.pth"): b"head"}
    answer = cli("weights", "fetch", "aesthetic")
    assert answer.code == 0, answer
    assert hub.asked == ["config.json", "model.safetensors", "aesthetic-model.pth"]
    assert answer.out.count(" is here: ") == 2
    assert rows_of(cli("weights", "verify", "aesthetic", "--json"))[-1]["state"] == "ok"


def test_fetch_of_a_model_takes_one_copy_of_each_part(cli, hub):
    extra = ["v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "safety_checker/model.safetensors", "README.md"]
    extra += ["unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors"]
    extra += ["unet/diffusion_pytorch_model.non_ema.safetensors", "text_encoder/pytorch_model.bin"]
    tokens = ["tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json"]
    hub.files |= {(MODEL, name): name.encode() for name in [*known.LAYOUT, *extra, *tokens]}
    answer = cli("weights", "fetch", MODEL)
    assert answer.code == 0, answer
    assert sorted(hub.asked) == sorted([*known.LAYOUT, *tokens])
    states = {row["file"]: row["state"] for row in rows_of(cli("weights", "verify", MODEL, "--json"))}
    large = {name: "ok" for name in known.LAYOUT if name.endswith(".safetensors")}
    assert states == dict.fromkeys(known.LAYOUT, "no hash known") | large


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RepositoryNotFoundError, ["the hub knows no such repository", f"did you mean {MODEL}?"]),
        (GatedRepoError, ["its licence has to be accepted", "hf auth login"]),
        (TimeoutError, ["TimeoutError", "where there is a network"]),
    ],
)
def test_why_the_hub_refuses(cli, monkeypatch, error, said):
    def refuse(self, repository, timeout):
        raise error.__new__(error)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    text = refused(cli("weights", "fetch", "stable-diffusion-v1-5/stable-diffusion-v15"))
    for words in said:
        assert words in text


def test_a_model_without_safetensors_is_refused_before_it_is_fetched(cli, hub):
    unet = "unet/diffusion_pytorch_model"
    hub.files |= {("some/model", name): b"" for name in known.LAYOUT if not name.startswith(unet)}
    hub.files |= {("some/model", f"{unet}.bin"): b""}
    text = refused(cli("weights", "fetch", "some/model"))
    assert f"some/model has no {unet}.safetensors" in text
    assert "take a model in StableDiffusionPipeline's layout, as safetensors" in text
    assert hub.asked == []


def test_what_was_fetched_must_have_the_known_hash(cli, hub, monkeypatch):
    need = Weights(HEAD, ("aesthetic-model.pth",), "head", sha256={"aesthetic-model.pth": sha256(b"head")})
    monkeypatch.setattr(LaionAesthetic, "needs", (need,))
    hub.files |= {(HEAD, "aesthetic-model.pth"): b"another"}
    text = refused(cli("weights", "fetch", "aesthetic"))
    assert f"has sha256 {sha256(b'another')[:12]}, not {sha256(b'head')[:12]}" in text


def test_the_layout_is_enough_to_load(tmp_path):
    from bench.build.plugins import embedded_models
    from models.loading import load_components

    for name in known.LAYOUT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(embedded_models()["emoji-v1"] / name, tmp_path / name)
    assert load_components(str(tmp_path)).tokenizer("a cat").input_ids


@pytest.fixture
def either(monkeypatch):
    """A reward that needs one of two."""
    two = (Weights("some/large", ("a.safetensors",), "model"), Weights("some/small", ("b.safetensors",), "model"))
    monkeypatch.setattr(LaionAesthetic, "needs", two)


def test_of_two_that_stand_in_for_each_other_one_is_needed(cli, hub, put, either):
    assert cli("weights", "list").out.count("or some/small; b.safetensors; size not known") == 1
    assert cli("weights", "verify", "aesthetic").code == 2
    hub.files |= {("some/large", "a.safetensors"): b"a", ("some/small", "b.safetensors"): b"b"}
    assert cli("weights", "fetch", "some/small").code == 0
    assert hub.asked == ["b.safetensors"]
    assert cli("weights", "verify", "aesthetic").code == 0
    assert cli("weights", "fetch", "aesthetic").code == 0
    assert hub.asked == ["b.safetensors", "a.safetensors"]


def test_a_repository_means_all_that_rewards_need_of_it(cli, hub, monkeypatch):
    """HPSv2's repository has two versions, and CLIP's is needed by several rewards."""
    two = [Weights("some/scores", (f"{name}.pth",), "model") for name in ("v1", "v2")]
    for number, need in enumerate([*two, two[0]]):
        monkeypatch.setattr(known, f"Reward{number}", SimpleNamespace(needs=(need,)), raising=False)
        entry = registry.Entry(f"bench.build.weights.known:Reward{number}", "")
        monkeypatch.setitem(registry._BUILT_IN, f"reward{number}", entry)
    hub.files |= {("some/scores", "v1.pth"): b"1", ("some/scores", "v2.pth"): b"2"}
    assert cli("weights", "fetch", "some/scores").code == 0
    assert hub.asked == ["v1.pth", "v2.pth"]


# -- verify


def test_right_files(cli, aesthetic):
    answer = cli("weights", "verify", "aesthetic")
    assert answer.code == 0, answer
    rows = rows_of(cli("weights", "verify", "aesthetic", "--json"))
    assert [(row["file"], row["state"], row["source"], row["do"]) for row in rows] == [
        ("config.json", "no hash known", None, None),
        ("model.safetensors", "ok", "the hub", None),
        ("aesthetic-model.pth", "ok", "the hub", None),
    ]


def test_a_damaged_file_is_named_with_what_to_do(cli, aesthetic):
    blob = aesthetic["model.safetensors"].resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    answer = cli("weights", "verify", "aesthetic")
    assert answer.code == 2
    damaged = [line for line in answer.out.splitlines() if line.startswith("damaged: ")]
    assert len(damaged) == 1
    assert damaged[0].endswith(f"; rm {blob} && bench weights fetch aesthetic")
    states = {row["file"]: row["state"] for row in rows_of(cli("weights", "verify", "aesthetic", "--json"), code=2)}
    assert states == {"config.json": "no hash known", "model.safetensors": "damaged", "aesthetic-model.pth": "ok"}
    blob.unlink()  # the advice, after which it can be fetched again
    states = {row["file"]: row["state"] for row in rows_of(cli("weights", "verify", "aesthetic", "--json"), code=2)}
    assert states["model.safetensors"] == "not here"


def test_the_known_hash_goes_before_the_blobs_name(cli, put, monkeypatch):
    """A file that was another already when the hub gave it."""
    need = Weights(HEAD, ("aesthetic-model.pth",), "head", sha256={"aesthetic-model.pth": sha256(b"head").upper()})
    monkeypatch.setattr(LaionAesthetic, "needs", (need,))
    put(HEAD, "aesthetic-model.pth", b"another")
    (row,) = rows_of(cli("weights", "verify", "aesthetic", "--json"), code=2)
    assert (row["state"], row["source"], row["found"]) == ("damaged", "this package", sha256(b"another"))
    put(HEAD, "aesthetic-model.pth", b"head")
    (row,) = rows_of(cli("weights", "verify", "aesthetic", "--json"))
    assert (row["state"], row["expected"]) == ("ok", sha256(b"head"))


def test_a_cache_without_links_has_no_hashes(cli, aesthetic):
    for link in aesthetic.values():
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
    rows = rows_of(cli("weights", "verify", "aesthetic", "--json"))
    assert {row["state"] for row in rows} == {"no hash known"}


def test_missing_files_count_only_where_they_are_asked_for(cli, put, monkeypatch):
    from_hub = [item for item in needs.items() if item.weights is not None]
    monkeypatch.setattr(verbs, "items", lambda: from_hub)
    put(CLIP, "config.json", b"{}")
    rows = rows_of(cli("weights", "verify", "--json"))
    assert ("model.safetensors", "not here") in {(row["file"], row["state"]) for row in rows}
    answer = cli("weights", "verify", "aesthetic")
    assert answer.code == 2
    assert answer.out.splitlines()[-1] == "not here: aesthetic; bench weights fetch aesthetic"


def test_a_shared_file_is_read_once(cli, aesthetic, monkeypatch):
    entry = registry._BUILT_IN["aesthetic"]
    monkeypatch.setitem(registry._BUILT_IN, "again", entry)
    read = []
    monkeypatch.setattr(checking, "file_sha256", lambda path: read.append(path) or path.name)
    assert len(rows_of(cli("weights", "verify", "aesthetic", "again", "--json"))) == 6
    assert len(read) == 2


# -- what ships


def test_what_ships_is_what_trials_record(cli):
    shipped = {item.name: item.shipped for item in needs.items() if item.shipped is not None and item.shipped.exists()}
    places = {known.place(path) for path in shipped.values()}
    assert places == set(known.SHIPPED), "give SHIPPED in bench/build/weights/known.py the hash of what ships"
    rows = rows_of(cli("weights", "verify", *sorted(shipped), "--json"))
    assert {row["name"]: row["state"] for row in rows} == dict.fromkeys(shipped, "ok")
    for row in rows:
        if row["kind"] == "reward":
            assert build_reward(RewardSpec(name=row["name"])).weights_sha256 == row["found"]
        else:
            load_components(row["path"])
            assert model_hash(resolve_model(row["name"], Path())) == row["found"]


def test_a_shipped_model_that_changed(cli, tmp_path, monkeypatch):
    from bench.build import plugins

    folder = tmp_path / "v1"
    shutil.copytree(plugins.embedded_models()["emoji-v1"], folder)
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    for module in (plugins, needs):
        monkeypatch.setattr(module, "embedded_models", lambda: {"emoji-v1": folder})
    monkeypatch.setitem(known.SHIPPED, str(folder), known.SHIPPED["models/emoji/v1"])
    (row,) = rows_of(cli("weights", "verify", "emoji-v1", "--json"), code=2)
    assert row["state"] == "damaged"
    assert "git checkout" in row["do"]
    config.unlink()
    (row,) = rows_of(cli("weights", "verify", "emoji-v1", "--json"), code=2)
    assert row["state"] == "damaged"


def test_a_shipped_reward_that_is_missing(cli, tmp_path, monkeypatch):
    file = tmp_path / "aesthetic.safetensors"
    monkeypatch.setattr("rewards.emoji.aesthetic.WEIGHTS", file)
    monkeypatch.setitem(known.SHIPPED, str(file), sha256(b"short"))
    line = next(line for line in cli("weights", "list").out.splitlines() if str(file) in line)
    assert line.rstrip().endswith("missing")
    answer = cli("weights", "verify", "emoji-aesthetic")
    assert answer.code == 2
    assert f"damaged: {file}: FileNotFoundError" in answer.out
    file.write_bytes(b"other")
    answer = cli("weights", "verify", "emoji-aesthetic")
    assert answer.code == 2
    assert f"{file} has sha256 {sha256(b'other')[:12]}, not {sha256(b'short')[:12]}; git checkout -- " in answer.out
