"""Exercises of part 2, Concepts: one module a chapter."""
