"""What a lowering returns: the facts about a written artifact that the manifest records."""

from dataclasses import dataclass, field

from firsttoken.export.manifest import Cache, Method


@dataclass
class Lowered:
    """``methods`` and ``cache`` as the manifest describes them; ``notes`` are lines a user should read."""

    methods: list[Method]
    cache: Cache
    notes: list[str] = field(default_factory=list)
