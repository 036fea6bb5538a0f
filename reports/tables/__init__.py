"""The tables of a report; each module answers one question.

- `table.py`     `Table`, its cells, and the order of methods
- `rewards.py`   the ranking, the rewards, the paired differences
- `costs.py`     the cost of a target, and every trial
- `ablation.py`  one method's variants; `parity.py`: another implementation of a method beside ours
- `tuning.py`    the search for settings before the comparison

To add a table, write a function that returns a `Table` and call it in `document.compose`; page, Markdown, csv and LaTeX
show every table of the document.
"""
