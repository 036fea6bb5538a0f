"""What a run writes, and where: the run's folder, a trial's folder, checkpoints, merging, a copy behind a URL.

`run_folder.py` and `trial_folder.py` are the only ways in and out; files are written atomically, by one process a
trial. Whoever reads a damaged file gets what is whole of it and the name of the damage.
"""
