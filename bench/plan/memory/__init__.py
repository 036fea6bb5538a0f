"""Memory and time of a trial: predicted by a dry pass, fitted to a card, measured, and tabulated.

`prediction.py` says what a worker will hold, `fitting.py` which settings fit a card, `pace.py` how long a trial will
take; `weighing.py` measures what a worker holds. `beside.py` predicts while a run's trials train.
`python -m bench.plan.memory.table > docs/memory.md` writes the table.
"""
