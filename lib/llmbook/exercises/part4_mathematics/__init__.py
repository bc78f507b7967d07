"""Exercises of part 4, Mathematics: one module a chapter."""
