"""Drawings in SVG: boxes, arrows, cells, clocks, made by code from the numbers of a page.

The choice: a few primitives of our own. What a drawing of this book needs beside shapes (colours of the page's theme,
alternative text, letters that stay legible on a phone, panels that open on a click) no library of SVG brings.
A drawing is made by a function of values, so the numbers in it are the computed ones, and ``sweep`` makes an explorer
of that function.
"""

from llmbook.figures.drawing.parts import Panel, Place
from llmbook.figures.drawing.shapes import Drawing

__all__ = ["Drawing", "Panel", "Place"]
