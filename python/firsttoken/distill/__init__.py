"""Distillation: a teacher checkpoint (or several) and one recipe file make a smaller student checkpoint.

Every part stands alone: `losses` are pure functions, `schedules` are numbers over time, `cut` slices a checkpoint,
`cache` keeps a teacher's answers on disk, and `distill.distill` puts them together as one recipe says.
"""

from firsttoken.callable_package import make_callable

make_callable(__name__)
