"""Checkpoints and bundles in EleutherAI's lm-evaluation-harness, so that its tasks, and anyone's own, run on the exported file.

    python -m firsttoken.evaluate.harness run --model firsttoken --model_args bundle=out/tflite-xnnpack --tasks my_task --include_path tasks

is lm_eval's own command with this model known to it, since lm_eval looks for no models in other packages. The numbers are those of its
``hf`` model on the same checkpoint, but that a bundle computes what its plan says.
"""

NAME = "firsttoken"


def register() -> None:
    """Makes ``model="firsttoken"`` known to lm_eval, also for programs that call ``lm_eval.simple_evaluate``. Raises `FirstTokenError` without it."""
    from firsttoken.extras import need

    need("lm-eval", "lm_eval's tasks")
    import lm_eval.models  # noqa: F401  its own come first
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=f"{__name__}.model:FirstTokenLM")
