"""What builds the book: run the chapters, merge their outputs, render the site, check the sources.

Nothing here is imported by `llmbook` or by a chapter. Run it as `PYTHONPATH=lib python -m publishing COMMAND`.
"""
