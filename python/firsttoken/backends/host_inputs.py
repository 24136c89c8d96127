"""The names of inputs that a host feeds, which lowering and runners share."""


def rotation_inputs(number: int) -> tuple[str, str]:
    """The names of the inputs that take cos and sin of rotation ``number``."""
    return ("cos", "sin") if number == 0 else (f"cos.{number}", f"sin.{number}")


def of_window(name: str, window: int | None) -> str:
    """The name of an input or a run-time length that layers with this window have for themselves."""
    return name if window is None else f"{name}_{window}"


CHECK = "check"
"""The method that gives the logits of every one of a few tokens, for drafts."""
