"""Exercises of part 3, Algorithms step by step: one module a chapter."""
