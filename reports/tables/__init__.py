"""Tables of formatted strings, one question a module.

- `table.py`     `Table`, what its cells are made of, and the order of methods
- `rewards.py`   the ranking, the rewards, the paired differences
- `costs.py`     what a target cost, and every trial
- `ablation.py`  one method's variants; `parity.py`: a peer's implementation beside ours
- `tuning.py`    what was tried before the comparison

To add a table: write a function that returns a `Table` and name it in `document.compose`; page, Markdown, csv and LaTeX
show every table they are given.
"""
