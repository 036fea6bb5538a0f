"""Runs behind a URL (`--out s3://bucket/runs/x`): a run works in a local folder, which is mirrored to the store.

- `place.py`     `Place`, a folder behind a URL: reading, writing and listing; files appear there atomically
- `lease.py`     the lease that lets only one machine write the run
- `manifest.py`  the files that a local folder and the store have in common, so that only changed files are moved
- `fetching.py`  store -> local folder, to resume or to read a run
- `mirror.py`    local folder -> store in the background, in an order that leaves the store loadable at any moment

`RunFolder` and `TrialFolder` work on local files only. Readers fetch a record before the data that it names, and the
writer uploads the data before the record. So no reader sees a record without its data, even after a crash between two
transfers.
"""
