"""Distillation: a teacher checkpoint (or several) and one recipe file make a smaller student checkpoint.

Every part stands alone: `losses` are pure functions, `schedules` are numbers over time, `cut` slices a checkpoint,
`cache` keeps a teacher's answers on disk, and `distill.distill` puts them together as one recipe says. The package can be
called: ``firsttoken.distill(recipe, output)`` is `distill.distill.distill`, or `classifiers.run.distill_classifier` for a
classifier's recipe.
"""

import sys
from types import ModuleType


class _Callable(ModuleType):
    """This package, which is also the function it is named after."""

    def __call__(self, recipe, output=None, **options):
        from pathlib import Path

        from firsttoken.distill.recipe import is_classifier

        if isinstance(recipe, str | Path) and is_classifier(recipe):
            from firsttoken.distill.classifiers.run import distill_classifier

            return distill_classifier(recipe, output, **options)
        from firsttoken.distill.distill import distill

        return distill(recipe, output, **options)


sys.modules[__name__].__class__ = _Callable
