"""A sweep's YAML file: its schema, the places of its values, overlays, prompt sets, and messages about its problems.

`load.py` reads a file as a validated `Sweep`; no module here imports methods, rewards or models. To add a key, add a
field to `schema.py` and run `make schema`; to add a prompt set, add a text file to `prompt_sets/`.
"""
