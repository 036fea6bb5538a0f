"""What a command line offers to choose from. It imports nothing, so that `bench --help` need not wait for pandas."""

FORMATS = ("html", "md", "csv", "latex", "pdf", "png", "svg")
DEFAULT_FORMATS = ("html", "md")

PRIMARY = ("area", "final", "heldout")
"""Statistics of the reward's curve, higher is better; each can be a gate's primary one and be kept per prompt."""

MODES = ("auto", "exact", "statistical")
"""How `bench check` compares."""
