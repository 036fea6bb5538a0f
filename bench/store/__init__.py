"""Storage of runs: the run's folder, the trials' folders, checkpoints, merging, and copies behind a URL.

`run_folder.py` and `trial_folder.py` are the only modules that read and write a run's files. Files are written
atomically, and each trial has one writing process. A reader of a damaged file gets its intact parts and a description
of the damage.
"""
