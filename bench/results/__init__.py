"""From runs to what `reports/` reads: frames, several runs together, provenance, baselines, history.

Everything a page or a gate shows of a run is gathered here from its folder; nothing here calculates a statistic.
"""
