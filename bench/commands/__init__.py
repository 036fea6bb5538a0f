"""One module a verb; `shared.py` holds the flags that several verbs take.

A verb is a click command called `command`. It parses, calls one function of the harness, and prints: nothing is decided
here. Heavy imports stand inside functions, so that `bench --help` and a misspelt key answer at once.
"""
