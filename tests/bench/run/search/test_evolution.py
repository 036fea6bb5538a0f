"""The population of PBT in the store: turns, exchanges, interruptions, deaths. Tune and the loop are played here."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest

from bench.run.search import evolution
from bench.run.search.candidates import Candidates
from bench.run.search.evolution import Evolving
from bench.run.settle import STOPPED
from bench.store.files import write_json
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep
from tests.bench.bodies import fake_points

VARIANT = "alignprop"


class Population:
    """Members of a search as Tune's actors find them."""

    def __init__(self, loaded, path):
        self.search = loaded.sweep.search
        self.founders = {VARIANT: Candidates(loaded).drawn(VARIANT)}
        self.run = RunFolder(path)
        self.scratch = path / "scratch"
        self.evolving = Evolving(self.search, self.founders, "this search")
        self.checkpoints = {}  # member -> what Tune would go on from
        self.pause_at = None  # told points after which a turn ends
        self.told = []
        for each in self.founders[VARIANT]:
            trial = each.trials[0]
            write_json(self.scratch_spec(trial.key), trial.model_dump(mode="json"))

    def scratch_spec(self, key):
        path = self.scratch / "specs" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def starts(self):
        return [(number, each.trials[0].key) for number, each in enumerate(self.founders[VARIANT])]

    def folder(self, number, generation=0):
        return self.run.trial(self.evolving.generations(self.run)[VARIANT][number][generation].key)

    def chain(self, number):
        """Status of each of a member's generations."""
        chain = self.evolving.generations(self.run)[VARIANT][number]
        return [self.run.trial(trial.key).recorded_status() for trial in chain]

    def turn(self, number, donor=None, values=None):
        """A process for the member, from its own checkpoint, or from a donor's with other values."""
        origin = self.founders[VARIANT][number if donor is None else donor]
        config = {"member": {"trial": origin.trials[0].key, "values": values or origin.values}}
        self.playing = number
        self.from_ = self.checkpoints.get(number if donor is None else donor)
        evolution._member(
            config, str(self.run.path), str(self.scratch), "", "call", "reward", VARIANT, "this search", self.starts
        )

    # -- Tune's side ------------------------------------------------------------------------------------------------

    def report(self, metrics, checkpoint=None):
        self.told.append((self.playing, metrics["spent"]))
        self.checkpoints[self.playing] = checkpoint
        if self.pause_at == metrics["spent"]:
            raise SystemExit(0)

    def get_context(self):
        return SimpleNamespace(get_trial_id=lambda: f"abc_{self.playing:05d}")

    def get_checkpoint(self):
        return self.from_


@pytest.fixture
def population(searched_file, tmp_path, monkeypatch):
    overrides = ["search.algorithm=pbt", "search.samples=4", "budget={reward_queries: 16}"]
    found = Population(load_sweep(searched_file, None, overrides), tmp_path / "tuning")

    def loop(trial, folder, observe):
        fake_points(trial, folder, count=folder_points(folder))
        for point in folder.read_curve():
            observe(point)
        for count in range(folder_points(folder) + 1, 4):
            fake_points(trial, folder, count)
            observe(folder.read_curve()[-1])

    monkeypatch.setattr("bench.run.worker.run_trial", loop)
    for name in ("report", "get_context", "get_checkpoint"):
        monkeypatch.setattr(f"ray.tune.{name}", getattr(found, name))
    return found


def folder_points(folder):
    return len(folder.read_curve())


def test_a_member_whose_turn_ends_goes_on_in_its_next(population):
    """Four members on two cores: each turn ends with its process, and there are no retries to spare."""
    assert population.founders[VARIANT][0].trials[0].retries == 0
    population.pause_at = 0.0
    with pytest.raises(SystemExit):
        population.turn(0)
    assert population.chain(0) == ["running"]
    population.pause_at = 8.0
    with pytest.raises(SystemExit):
        population.turn(0)
    population.pause_at = None
    population.turn(0)
    assert population.chain(0) == ["done"], population.folder(0).read().cause
    assert population.told == [(0, 0.0), (0, 8.0)], "each point once, and not the last"


def exchange(population, receiver=1, donor=0):
    population.pause_at = 8.0
    for number in (donor, receiver):
        with pytest.raises(SystemExit):
            population.turn(number)
    population.pause_at = None
    values = {"learning_rate": 0.005}
    population.turn(receiver, donor=donor, values=values)
    return values


def test_an_exchange_is_a_new_generation_and_what_it_replaced_gave_way(population):
    values = exchange(population)
    assert population.chain(1) == ["pruned", "done"]
    donor, copy = population.folder(0), population.folder(1, 1)
    record = copy.read()
    assert record.model_extra["origin"]["trial"] == donor.key
    assert record.model_extra["origin"]["point"] == 1
    assert record.spec["settings"]["learning_rate"] == values["learning_rate"]
    assert copy.read_curve()[:2] == donor.read_curve()[:2]
    assert population.folder(1).read().cause == (
        f"gave way to a copy of {donor.key} at 8 reward_queries, by population based training"
    )


def test_a_copy_whose_process_died_before_its_first_point_is_not_copied_again(population):
    exchange(population)
    copy = population.folder(1, 1)
    copy.write_status("running")
    population.checkpoints[1] = population.checkpoints[0]  # what Tune has of it
    population.turn(1, donor=0, values={"learning_rate": 0.005})
    assert population.chain(1) == ["pruned", "done"]


def test_what_a_process_had_written_when_it_died_is_told_by_the_next(population):
    population.pause_at = 0.0
    with pytest.raises(SystemExit):
        population.turn(2)
    fake_points(population.founders[VARIANT][2].trials[0], population.folder(2), 2)
    population.pause_at = None
    population.turn(2)
    assert population.chain(2) == ["done"]
    assert population.told == [(2, 0.0), (2, 8.0)]


def test_a_search_taken_up_again_goes_on_with_each_members_last_generation(population):
    exchange(population)
    copy = population.folder(1, 1)
    copy.write_status("interrupted", STOPPED)
    population.folder(0).write_status("interrupted", STOPPED)
    latest = population.evolving.latest(population.run)
    assert [trial.key for trial in latest][:2] == [population.folder(0).key, copy.key]
    assert len(latest) == 4
    again = Evolving(population.search, population.founders, "this search")
    assert [trial.key for trial in again.latest(population.run)] == [trial.key for trial in latest]
    tried = again.members(population.run)[VARIANT]
    assert [each.number for each in tried] == [0, 1, 2, 3, 4]
    assert tried[4].values == {"learning_rate": 0.005}
    # A new call has no checkpoints: the member says where it stands, once, and goes on.
    write_json(population.scratch_spec(copy.key), latest[1].model_dump(mode="json"))
    population.told.clear()
    population.playing, population.from_ = 1, None
    config = {"member": {"trial": copy.key, "values": tried[4].values}}
    starts = [(number, trial.key) for number, trial in enumerate(latest)]
    copy.cut_curve(1)
    evolution._member(
        config, str(population.run.path), str(population.scratch), "", "call", "reward", VARIANT, "this search", starts
    )
    assert population.chain(1) == ["pruned", "done"]
    assert population.told == [(1, 8.0)]


def test_the_population_of_another_search_is_none_of_this_one(population):
    exchange(population)
    other = Evolving(population.search, population.founders, "another search")
    assert [len(chain) for chain in other.generations(population.run)[VARIANT]] == [1, 1, 1, 1]
    assert [trial.key for trial in other.latest(population.run)] == [
        each.trials[0].key for each in population.founders[VARIANT]
    ]
    assert len(other.members(population.run)[VARIANT]) == 4


def test_an_exchange_that_was_interrupted_is_finished(population):
    exchange(population)
    population.folder(1).write_status("interrupted", STOPPED)
    population.evolving._finish_exchanges(population.run)
    assert population.chain(1) == ["pruned", "done"]
    assert "gave way to a copy" in population.folder(1).read().cause


def test_who_died_has_failed_and_who_was_left_over_has_not(population):
    from ray.exceptions import ActorDiedError, RayTaskError

    for number in range(4):
        population.run.trial(population.starts[number][1]).write_status("running")
    population.folder(3).write_status("failed", "its own cause")
    raised = RayTaskError("train", "Traceback", OSError(28, "No space left on device"), "", 1, "127.0.0.1")
    population.evolving._end(
        population.run, VARIANT, {0: ActorDiedError(), 1: raised, 2: None, 3: RuntimeError("whatever")}
    )
    records = [population.folder(number).read() for number in range(4)]
    assert [record.status for record in records] == ["failed", "failed", "pruned", "failed"]
    assert "its process died without a word" in records[0].cause
    assert records[1].cause.startswith("the disk is full")
    assert records[2].cause == "ended with the search, by population based training"
    assert records[3].cause == "its own cause"


def test_execute_settles_the_copies_that_it_made(population, monkeypatch):
    """Whoever calls it knows of the members that it was given, and of no copy."""
    trials = population.evolving.latest(population.run)

    def fit(group, run, command, at_once, scratch, body, scheduler, space):
        exchange(population)
        population.folder(1, 1).write_status("running")
        raise KeyboardInterrupt

    monkeypatch.setattr(evolution, "fit", fit)
    monkeypatch.setattr(evolution, "session", lambda *_: nullcontext(population.scratch))
    with pytest.raises(KeyboardInterrupt):
        population.evolving.execute(trials, population.run, "")
    assert population.chain(1) == ["pruned", "interrupted"]
    assert population.folder(1, 1).read().cause == STOPPED

    seen = []
    monkeypatch.setattr(evolution, "fit", partial(_nothing_fits, seen))
    population.evolving.execute(population.evolving.latest(population.run), population.run, "")
    (group,) = seen
    assert population.folder(1, 1).key in group, "the copy goes on"
    assert population.folder(1).key not in group, "not what it replaced"


def _nothing_fits(seen, group, *_):
    seen.append([trial.key for trial in group])
    return []
