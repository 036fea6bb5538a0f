"""What rewards and models need that is large: what it is, whether it is here and undamaged (`bench weights`).

One direction, a module a step; nothing heavy is imported before a function needs it:

- `known.py`     what the package knows beforehand: a model's layout, sizes, licences, hashes
- `needs.py`     what rewards and models need; names -> items, and an item as a row
- `fetching.py`  into the hub's cache; why it cannot be, and what to do by hand
- `checking.py`  files against their hashes; what ships is loaded too
"""
