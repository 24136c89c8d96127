"""firsttoken: from a language-model checkpoint to its first token on a phone."""


def __getattr__(name: str):
    # `firsttoken.distill(...)` after nothing but `import firsttoken`; nothing is imported before it is asked for
    if name == "distill":
        from importlib import import_module

        return import_module("firsttoken.distill")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
