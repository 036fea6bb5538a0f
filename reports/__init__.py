"""Tidy data frames in; figures, tables and one self-contained page out. This floor imports nothing of ours.

`reports.build` is the entry: `build_together` computes, `write_document` writes. Each line imports only those above it:

- `choices.py`, `names.py`, `formatting.py`, `files.py`  names to choose from and of metrics, numbers as text, atomic
  writing
- `frame.py`, `meta.py`  the schema of the frames with its checks, and what a reader must know that they do not say
- `machines.py`   what trials ran on, and whose seconds may stand in one column
- `statistics/`   numbers: of one curve, over seeds, between methods
- `figures/`, `tables/`  what is drawn and what is set in columns
- `opening.py`    what a person would say of the best method who has seen its pictures
- `headline.py`, `notices.py`  the answer in a few sentences, and what a reader must be warned of
- `document.py`   all of it in reading order, before it is HTML or anything else
- `writers/`, `build.py`  the document as files
- `regression/`   the verdict on a run beside a baseline, two runs side by side, steps over many results

Rules that hold everywhere: a trial that failed is a row with its cause; NaN is printed as NaN; a target that was not
reached is "not reached", never a number; nothing is extrapolated; under five seeds the range is shown, no interval.
"""
