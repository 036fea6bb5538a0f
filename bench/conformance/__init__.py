"""The checks of `bench test`: each is a small function that tries a method on a random tiny model.

`subject.py` builds the method as the harness does, with the settings of `expectations.py`;
`contract.py`, `training.py`, `invariance.py` and `sampling.py` hold the checks;
`suite.py` runs them in order. To add one, write a function `(Subject) -> CheckResult` decorated
with `@check`, name it in `suite.py`, and add a broken method that fails it to tests/bench/conformance/test_suite.py.
Other projects call `suite.check_method` in their own tests.
"""
