"""Speed and quality of the library beside what readers would otherwise use: ``python -m benchmarks``.

Begin with ``harness.py``, how two things are compared on a machine that is never quite quiet; then ``training.py``.
"""
