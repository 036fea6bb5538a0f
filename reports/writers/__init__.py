"""A `Document` as files: each module writes one kind of file and decides nothing about its content.

- `page.py`      the HTML page, from `page.html.jinja`, `page.css`, `page.js`, `interactive.js` and uPlot (`vendor/`)
- `markdown.py`  one table as Markdown; `report_markdown.py`: the report, with the figures that it links to
- `exports.py`   tables as csv and LaTeX, figures as png, svg and pdf, for a paper
- `printing.py`  the page as a PDF, by a browser
"""
