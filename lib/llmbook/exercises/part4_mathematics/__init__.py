"""Exercises of part 4, Mathematics, worked and checked: one module a chapter."""
