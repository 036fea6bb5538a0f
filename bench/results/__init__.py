"""Preparation of stored runs for `reports/`: frames, joint reports of several runs, provenance, baselines, history.

The modules read everything that a page or a gate shows from the run's folder; they calculate no statistics.
"""
