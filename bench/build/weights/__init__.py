"""Weights of rewards and models: which files each needs, and whether they are here and undamaged (`bench weights`).

Each module imports only those above it:

- `known.py`     facts in the package: the layout of a model on the hub, sizes, licences, hashes
- `needs.py`     the files that each reward and model needs, and which of them are on this machine
- `fetching.py`  fetches files into the hub's cache, or says what to do
- `checking.py`  compares files with their SHA-256
"""
