"""Tidy data frames in; figures, tables and one self-contained page out. This floor imports nothing of ours.

`reports.build.write_report` is the entry point. The modules, each importing only those above it:

- `choices.py`     formats, modes and statistics that a command line offers
- `frame.py`       the schema of the frames, their validation, and the words for axes and metrics
- `meta.py`        `Meta`: what a reader must know about a run and the frames do not say
- `formatting.py`  numbers as text: three significant digits, units, ranges
- `statistics.py`  arithmetic on one curve or one list of values: area, cost to a target, intervals
- `evidence.py`    tests over seeds, Holm, power, the crossed bootstrap
- `machines.py`    what trials ran on, and whose seconds may stand in one column
- `comparison.py`  the same over a whole frame: per trial, per method, against a baseline, paired
- `overoptimisation.py`  where gold fell while the reward rose
- `styles.py`      one colour and line style a method, on every figure
- `curves.py`      the figures; `goodhart.py`: those of over-optimisation; `svg.py` makes them part of a page
- `interactive.py` what the page's own curves are drawn from; `interactive.js` draws it with uPlot (`vendor/`, MIT)
- `tables.py`      tables of formatted strings: ranking, rewards; `costs.py`: efficiency and trials
- `ablation.py`, `parity.py`  tables of one method's variants, and of a peer's implementation beside ours
- `headline.py`    the answer in two sentences; `notices.py`: what a reader must be warned of
- `pictures.py`    samples of every method on the same prompts and noise
- `document.py`    all of it in reading order
- `page.py`, `page.html.jinja`, `page.css`, `page.js`, `markdown.py`, `exports.py`, `printing.py`  the document as a
  page, Markdown, files for a paper, and a PDF; `build.py` writes them
- `regression/`    the verdict on a run beside a baseline, two runs side by side, steps over many results

To add a table: write a function that returns a `tables.Table` and name it in `document.compose`; page and Markdown show
every table they are given. To add a figure: write a function that returns a matplotlib `Figure` and add it
to `document.compose`; take colours from `styles`, so that it follows the reader's light or dark mode.

Rules that hold everywhere: a trial that failed is a row with its cause; NaN is printed as NaN; a target that was not
reached is "not reached", never a number; nothing is extrapolated; under five seeds the range is shown, no interval.
"""
