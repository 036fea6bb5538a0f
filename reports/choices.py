"""The choices that command-line options offer. It imports nothing, so that `bench --help` does not load pandas."""

FORMATS = ("html", "md", "csv", "latex", "pdf", "png", "svg")
DEFAULT_FORMATS = ("html", "md")

PRIMARY = ("area", "final", "heldout")
"""Statistics of the reward's curve, of which a gate's primary one is chosen; higher is better in each."""

MODES = ("auto", "exact", "statistical")
"""The modes in which `bench check` compares curves."""
