"""`bench list methods --json`: each setting with its default and what is published of it."""

import json


def test_settings_come_with_what_is_published_of_them(cli):
    rows = {row["name"]: row["settings"] for row in json.loads(cli("list", "methods", "--json").out)}
    keys = {"default", "description", "published", "source", "scales"}
    assert all(setting.keys() == keys for settings in rows.values() for setting in settings.values())
    rate, statistics = rows["ddpo"]["learning_rate"], rows["ddpo"]["statistics"]
    assert (rate["default"], rate["published"], rate["scales"]) == (3e-3, 3e-4, True)
    assert (statistics["default"], statistics["published"], statistics["scales"]) == ("per-prompt", "per-prompt", False)
    assert "kvablack/ddpo-pytorch" in rate["source"]
    assert (rows["ddpo"]["micro_batch"]["published"], rows["ddpo"]["micro_batch"]["source"]) == (None, "ours")
    assert rows["alignprop"]["adam_betas"]["published"] == [0.9, 0.999]
