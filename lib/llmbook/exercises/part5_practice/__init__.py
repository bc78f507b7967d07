"""Exercises of part 5, Practice: one module a chapter."""
