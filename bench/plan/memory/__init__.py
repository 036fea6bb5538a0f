"""Memory of a trial: predicted by arithmetic and a dry pass, fitted to a card, and tabulated in docs/memory.md.

`prediction.py` says what a worker will hold, `fitting.py` which of a sweep's settings make it smaller and fit a card.
`python -m bench.plan.memory.table` prints the table of docs/memory.md.
"""
