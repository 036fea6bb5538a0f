"""The sweep's YAML and what it may say: schema, places of values in the file, overlays, prompt sets, problems in words.

`load.py` reads a file to a validated `Sweep`; nothing here knows a method, a reward's code or a model. A new key is a
field in `schema.py` (then `make schema`), and a new set of prompts a text file in `prompt_sets/`.
"""
