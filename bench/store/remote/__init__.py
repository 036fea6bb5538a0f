"""A run that is kept behind a URL (`--out s3://bucket/runs/x`): worked on in a local folder, mirrored to the store.

- `place.py`     a folder behind a URL, in the few calls that the rest needs; every file appears there whole
- `lease.py`     one writer: who is writing the run, renewed while it does
- `manifest.py`  what a local folder and the store have in common, so that only what changed is moved
- `fetching.py`  store -> local folder, and runs opened to read them
- `mirror.py`    local folder -> store in the background, in an order that leaves the store loadable at any moment

`RunFolder` and `TrialFolder` know nothing of it: whatever runs, runs on local files. A reader takes a record before the
data that it names, the writer puts the data there before the record; so neither a crash between two transfers nor a
reader in the midst of them sees a record without its data.
"""
