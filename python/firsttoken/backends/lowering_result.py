"""What a lowering returns: the facts about a written artifact that the manifest records."""

from dataclasses import dataclass, field

from firsttoken.bundle.manifest import Cache, Method, Npu


@dataclass
class Lowered:
    """``methods`` and ``cache`` as the manifest describes them; ``notes`` are lines a user should read; ``npu`` where
    an artifact for one was compiled beside it."""

    methods: list[Method]
    cache: Cache
    notes: list[str] = field(default_factory=list)
    npu: Npu | None = None
