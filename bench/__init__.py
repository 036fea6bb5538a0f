"""The harness: a sweep becomes trials, trials run somewhere, the store keeps what they did, a report compares them.

Storeys, lowest first; each imports from those below it, and its `__init__.py` says how to add to it:

- `sweep/`        the YAML, and what it may say
- `build/`        names and references to objects; a trial's policy, rewards and optimiser
- `plan/`         a sweep as a list of trials: identity, preflight, costs
- `store/`        what is written where, and what is whole of it
- `run/`          a trial from start to end: loop, executors, workers, search, trackers
- `results/`      frames for `reports/`, baselines, history
- `conformance/`  `bench test`
- `commands/`     one module a verb; `cli.py` names them

Beside them stand what every storey uses: `errors.py`, `console.py`, `stopping.py`, `background.py`, `authors.py`,
`digest.py`.
This floor imports `models`, `rewards`, `methods` and `reports`; nothing imports it.
"""
