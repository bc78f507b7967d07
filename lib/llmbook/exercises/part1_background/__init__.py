"""Exercises of part 1, Background: one module a chapter."""
