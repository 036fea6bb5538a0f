"""Tidy data frames in; figures, tables, one self-contained page and the regression verdict out.

This floor imports no other folder of the project and knows no method by name: a method's family, colours and peer come
in `meta.Meta.methods` and in the curves' column `family`. `reports.build` is the entry: `build_together` computes a
document, `write_document` writes it. Each line below imports only lines above it:

- `names.py`, `choices.py`  axes, metrics and statuses; what a command line offers to choose from
- `formatting.py`, `files.py`  numbers as text; atomic writing
- `frame.py`, `meta.py`  the schema of the frames with its checks; what a reader must know and the frames do not hold
- `machines.py`   what trials ran on, and whose seconds may share a column
- `statistics/`   numbers of one curve, over seeds, between methods
- `figures/`, `tables/`  the drawings and the tables
- `opening.py`    the answer's first sentence: what gold, other rewards and diversity show of the best method
- `headline.py`, `notices.py`  the answer in a few sentences; the warnings
- `document.py`   everything in reading order, independent of the file format
- `writers/`, `build.py`  the document as files
- `regression/`   a run against a baseline, two runs side by side, steps over many results

Rules that hold everywhere: a trial that failed is a row with its cause; NaN is printed as NaN; a target that was not
reached is "not reached", never a number; nothing is extrapolated; under five seeds a range is shown and no interval.
"""
