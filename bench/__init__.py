"""The harness: it plans a sweep as trials, runs them, stores their curves and results, and compares them in a report.

Storeys, lowest first; each imports from those below it, and its `__init__.py` says how to add to it:

- `sweep/`        the YAML file and its schema
- `build/`        objects from names and references; a trial's policy, rewards and optimiser
- `plan/`         the list of a sweep's trials: identity, preflight, costs
- `store/`        the files of a run: where each is written, and whether it is complete
- `run/`          a trial from start to end: loop, executors, workers, search, trackers
- `results/`      frames for `reports/`, baselines, history
- `conformance/`  `bench test`
- `commands/`     one module for each verb; `cli.py` lists the verbs

Every storey may use the modules beside them: `errors.py`, `console.py`, `stopping.py`, `background.py`, `authors.py`,
`digest.py`. `bench` imports `models`, `rewards`, `methods` and `reports`; none of those imports `bench`.
"""
