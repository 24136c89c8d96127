"""Running a program that a model wrote, and its tests, in two processes that can compute and nothing else."""

from firsttoken.evaluate.sandbox.run import Limits, Outcome, run_program, run_with_input, unguarded

__all__ = ["Limits", "Outcome", "run_program", "run_with_input", "unguarded"]
