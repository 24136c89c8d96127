"""Reading YAML that anyone may have written: plain data, and nothing that silently means something else.

Scalars are those of YAML 1.2's core schema, so that ``1e-3`` is a number, and ``no``, ``010`` and ``1:30`` are texts.
"""

import re
from functools import cache
from typing import Any

YAML_BYTES = 1 << 20  # of a file: PyYAML takes about a minute for ten times that
SCALARS = (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
)


@cache
def _loader() -> Any:
    """The loader's class: PyYAML's safe one without aliases, repeated fields and YAML 1.1's readings."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict = {}  # noqa: RUF012 -- PyYAML's own way

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise ValueError(f"{_place(self.peek_event())}: an alias (*{self.peek_event().anchor}); write out what it stands for")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:str":
                    raise ValueError(f"{_place(key)}: a field's name is {str(key.value)[:40]!r}; expected a text")
                if key.value in seen:
                    raise ValueError(f"{_place(key)}: {key.value} is there twice; leave one out")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    for tag, pattern, first in SCALARS:
        Loader.add_implicit_resolver(tag, re.compile(pattern), list(first))
    return Loader


def _place(marked: Any) -> str:
    return f"line {marked.start_mark.line + 1}"


def parse_yaml(text: str) -> dict[str, Any]:
    """Returns the fields of a YAML file. Raises `ValueError` for what is no YAML or no table of fields, for aliases, repeated fields and objects."""
    import yaml

    try:
        values = yaml.load(text, Loader=_loader())  # a subclass of SafeLoader: constructs no objects
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (AttributeError, IndexError, KeyError):  # PyYAML's own, of values that a tag does not fit, such as !!bool maybe
        raise ValueError("a tag (!!…) does not fit the value behind it; write the value without one") from None
    if not isinstance(values, dict):
        raise ValueError(f"expected fields with values, got {'nothing' if values is None else f'a {type(values).__name__}'}")
    return values
