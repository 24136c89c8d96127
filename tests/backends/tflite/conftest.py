from tflite_fixtures import lowered_runner, reference_logits, tied_checkpoint, tokens, untied_checkpoint  # noqa: F401
