"""Everything drawn; colours and line styles follow a method through all figures.

- `styles.py`       one colour and line style a method, on every figure
- `curves.py`       metrics along training; `goodhart.py`: what over-optimisation costs
- `svg.py`          makes a figure part of a page, in the reader's light or dark mode
- `interactive.py`  what the page's own curves are drawn from (`writers/interactive.js` draws it)
- `pictures.py`     samples of every method on the same prompts and noise

To add a figure: write a function that returns a matplotlib `Figure`, take colours from `styles`, and add it to
`document.compose`.
"""
