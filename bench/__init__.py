"""The harness: a sweep becomes trials, trials run somewhere, the store keeps what they did, a report compares them.

One direction, a module a step:

- `yaml_source.py`, `overlay.py`, `sweep.py`, `load.py`  a YAML file -> a validated `Sweep`; `problems.py` words errors
- `plugins.py`, `prompts.py`       names and references -> methods, rewards, models, prompts
- `plan.py`, `identity.py`         a `Sweep` -> `Trial`s (`trial_spec.py`); `estimate.py`, `preflight.py`
- `execution/`, `worker.py`        trials run inline or under Ray Tune, with a status at the end of each; `settle.py`
- `distributed/`                   many workers in one trial, with or without DeepSpeed ZeRO
- `trial.py`, `evaluation.py`, `budget.py`  the loop of one trial, and how it is measured
- `store.py`, `trial_folder.py`, `checkpoints.py`, `files.py`, `provenance.py`  what is kept of it; `merge.py`
- `curve.py`, `settled.py`, `replan.py`, `damage.py`  what of it is whole, and what is made of the rest
- `remote/`                        a run behind a URL: worked on locally, mirrored to any store that fsspec knows
- `reporting.py`                   the store -> `reports/`
- `baselines.py`, `history.py`     the store and baseline files -> the gate's verdict in `reports/`
- `weights/`                       what rewards and models need that is large: listed, fetched, checked
- `sweep_files.py`                 sweeps by name: those installed, and those in the working folder
- `cli.py`, `commands/`            one module a verb; `console.py` prints, `errors.py` holds the exit codes

To add a verb: write `commands/VERB.py` with a click command called `command`, and give it a line in `cli.VERBS`. To
add an executor: a module in `execution/`. To add a key to the YAML: a field in `sweep.py`, then write the schema anew
(`python -m bench.sweep.schema > sweeps/schema.json`).
This floor imports `models`, `rewards`, `methods` and `reports`; nothing imports it.
"""
