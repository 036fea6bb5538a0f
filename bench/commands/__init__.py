"""The verbs of the command line, one module for each; `shared.py` holds the options that several verbs take.

Each module has a click command called `command`, which parses its arguments, calls one function of the harness and
prints the result. Heavy imports stand inside functions, so that `bench --help` and a misspelt key answer at once.
"""
