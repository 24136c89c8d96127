"""What passes between a model's program and its tests, which run in two processes: plain data as JSON, and calls.

Values of Python's own types go over as data, so that the tests compare data and not objects whose ``__eq__`` the program wrote.
Anything else stays where it is and is seen from the other side as a `Remote`.
"""

import collections
import decimal
import fractions
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

MOST_ITEMS = 100_000  # taken of an iterator
MOST_BYTES = 64 << 20  # of one message
COUNT = struct.Struct("<I")
MUTABLE = (list, dict, set, bytearray, collections.deque)
SEQUENCES: dict[Any, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", collections.deque: "deque"}
MAKERS: dict[str, Callable] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "iterator": iter,
}
NUMBERS: dict[type, str] = {decimal.Decimal: "Decimal", fractions.Fraction: "Fraction"}
sys.set_int_max_str_digits(0)


class Gone(Exception):
    """The other side closed its end."""


class Remote:
    """A thing of the other side. Comparing two asks that side; one never equals plain data, whatever its class says."""

    def __init__(self, peer: "Peer", number: int, kind: str) -> None:
        self.__dict__.update(_peer=peer, _number=number, _kind=kind)

    def _ask(self, what: str, *arguments: Any, **named: Any) -> Any:
        return self._peer.ask(what, self._number, arguments, named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._ask("call", *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("attribute", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __repr__(self) -> str:
        return f"<{self._kind} of the program>"

    def __eq__(self, other: object) -> Any:
        return self is other or (isinstance(other, Remote) and self._ask("equal", other) is True)

    def __hash__(self) -> int:
        return hash((Remote, self._number))

    def __bool__(self) -> bool:
        return self._ask("bool") is True

    def __len__(self) -> int:
        return self._ask("len")

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __iter__(self) -> Iterator:
        return iter(self._ask("iterate"))

    def __str__(self) -> str:
        return self._ask("str")

    __lt__ = lambda self, other: self._ask("less", other) is True  # noqa: E731


OPERATIONS: dict[str, Callable] = {
    "call": lambda thing, arguments, named: thing(*arguments, **named),
    "attribute": lambda thing, arguments, named: getattr(thing, *arguments),
    "set": lambda thing, arguments, named: setattr(thing, *arguments),
    "equal": lambda thing, arguments, named: thing == arguments[0],
    "less": lambda thing, arguments, named: thing < arguments[0],
    "bool": lambda thing, arguments, named: bool(thing),
    "len": lambda thing, arguments, named: len(thing),
    "item": lambda thing, arguments, named: thing[arguments[0]],
    "iterate": lambda thing, arguments, named: list(thing),
    "str": lambda thing, arguments, named: str(thing),
}


class Peer:
    """One end of the two pipes. ``serves`` are the operations that the other side may ask for on what it was given."""

    def __init__(self, reading: int, writing: int, serves: frozenset[str] = frozenset(OPERATIONS)) -> None:
        self.reading, self.writing, self.serves = reading, writing, serves
        self.given: dict[int, object] = {}

    # messages

    def send(self, message: dict) -> None:
        data = json.dumps(message).encode()
        if len(data) > MOST_BYTES:
            raise ValueError(f"a value of {len(data)} bytes is too large to compare")
        data = COUNT.pack(len(data)) + data
        try:
            while data:
                data = data[os.write(self.writing, data) :]
        except BrokenPipeError:
            raise Gone from None

    def receive(self) -> dict:
        (size,) = COUNT.unpack(self._read(COUNT.size))
        if size > MOST_BYTES:
            raise Gone
        message = json.loads(self._read(size))
        if not isinstance(message, dict):
            raise Gone
        return message

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            part = os.read(self.reading, min(count, 1 << 20))
            if not part:
                raise Gone
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    # calls

    def ask(self, what: str, number: int, arguments: tuple, named: dict) -> Any:
        """Has the other side do ``what`` with its thing; an exception there is raised here by its name."""
        self.send({"ask": what, "of": number, "arguments": self.pack(arguments), "named": self.pack(named)})
        while True:
            message = self.receive()
            if "ask" in message:
                self.serve(message)
                continue
            for place, changed in message.get("changed", []):
                change(arguments[place], self.unpack(changed))
            if "raised" in message:
                raise exception(*message["raised"])
            return self.unpack(message["value"])

    def serve(self, message: dict) -> None:
        """Answers one call."""
        arguments: tuple = ()
        before: list[Any] = []
        try:
            if message["ask"] not in self.serves:
                raise TypeError(f"{message['ask']} is not possible here")
            arguments, named = self.unpack(message["arguments"]), self.unpack(message["named"])
            before = [json.dumps(self.pack(a)) if isinstance(a, MUTABLE) else None for a in arguments]
            answer = {"value": self.pack(OPERATIONS[message["ask"]](self.given[message["of"]], arguments, named))}
        except Gone:
            raise
        except BaseException as error:
            answer = {"raised": [[kind.__name__ for kind in type(error).__mro__], words(error)]}
        try:
            after = [(n, self.pack(arguments[n])) for n, was in enumerate(before) if was is not None]
            answer["changed"] = [[n, packed] for n, packed in after if json.dumps(packed) != before[n]]
        except (RecursionError, ValueError):  # it put a list into itself
            pass
        self.send(answer)

    # values

    def pack(self, value: Any) -> Any:
        """What stands for a value in JSON. Subclasses of plain types go as the plain type, which they equal."""
        if value is None or isinstance(value, bool) or type(value) is str:
            return value
        if isinstance(value, Remote) and value._peer is self:
            return {"yours": value._number}
        if isinstance(value, int):
            return {"int": hex(int(value))}
        if isinstance(value, float):
            return {"float": float(value).hex()}
        if isinstance(value, complex):
            return {"complex": [value.real.hex(), value.imag.hex()]}
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, (bytes, bytearray)):
            return {type(value).__mro__[-2].__name__: bytes(value).hex()}
        if isinstance(value, dict):
            return {"dict": [[self.pack(k), self.pack(v)] for k, v in dict.items(value)]}
        for sequence, name in SEQUENCES.items():
            if isinstance(value, sequence):
                return {name: [self.pack(item) for item in value]}
        for kind, name in NUMBERS.items():
            if isinstance(value, kind):
                return {name: str(value)}
        if isinstance(value, range):
            return {"range": [value.start, value.stop, value.step]}
        if isinstance(value, type({}.keys())):
            keys: list[Any] = list(value)
            return {"keys": [self.pack(key) for key in keys]}
        if (
            (numpy := sys.modules.get("numpy")) is not None
            and isinstance(value, (numpy.ndarray, numpy.generic))
            and value.dtype.kind in "biufcSU"
        ):
            shape = list(value.shape) if isinstance(value, numpy.ndarray) else None
            return {"numpy": [value.dtype.str, shape, value.tobytes().hex()]}
        if isinstance(value, (Iterator, type({}.values()), type({}.items()))):
            return {"iterator": [self.pack(item) for _, item in zip(range(MOST_ITEMS), value, strict=False)]}
        self.given[id(value)] = value
        return {"mine": id(value), "kind": type(value).__name__}

    def unpack(self, packed: Any) -> Any:
        if packed is None or isinstance(packed, (bool, str)):
            return packed
        (name, content), *rest = packed.items()
        if name == "int":
            return int(content, 16)
        if name == "float":
            return float.fromhex(content)
        if name == "complex":
            return complex(*map(float.fromhex, content))
        if name == "bytes":
            return bytes.fromhex(content)
        if name == "bytearray":
            return bytearray.fromhex(content)
        if name == "dict":
            return {self.unpack(k): self.unpack(v) for k, v in content}
        if name == "keys":
            return dict.fromkeys(map(self.unpack, content)).keys()
        if name in MAKERS:
            return MAKERS[name]([self.unpack(item) for item in content])
        if name == "Decimal":
            return decimal.Decimal(content)
        if name == "Fraction":
            return fractions.Fraction(content)
        if name == "range":
            return range(*content)
        if name == "numpy":
            import numpy

            dtype, shape, data = content
            flat = numpy.frombuffer(bytes.fromhex(data), numpy.dtype(dtype))
            return flat[0] if shape is None else flat.reshape(shape).copy()
        if name == "yours":
            return self.given[content]
        return Remote(self, content, rest[0][1])


def change(thing: Any, now: Any) -> None:
    """Makes a list, dict, set, deque or bytearray what it became on the other side."""
    if isinstance(thing, (list, bytearray)):
        thing[:] = now
    else:
        thing.clear()
        (thing.extend if isinstance(thing, collections.deque) else thing.update)(now)


def words(error: BaseException) -> str:
    """What an exception was made with; `str` of a KeyError is its quoted key."""
    only = error.args[0] if len(error.args) == 1 else None
    return (only if isinstance(only, str) else str(error))[:2000]


def exception(kinds: list[str], message: str) -> BaseException:
    """The nearest of Python's own exceptions to one of the other side."""
    import builtins

    for name in kinds:
        found = getattr(builtins, name, None)
        if isinstance(found, type) and issubclass(found, Exception):
            try:
                return found(message)
            except TypeError:
                continue
    return RuntimeError(f"{kinds[0]}: {message}")
