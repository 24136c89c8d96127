"""What a manifest says of weights that lie in the bundle as XNNPACK packs them."""

from pydantic import Field

from firsttoken.bundle.part import Part


class PackedFile(Part):
    """One file of packed weights: for CPUs of ``isa`` (`backends.isa`), made by this version of the runtime's package from the artifact that the bundle has.

    After the bundle's ``prompt`` the tokens ``top`` are the likeliest, in their order, with the logits ``largest``.
    """

    file: str
    isa: str = Field(min_length=1)
    package: str
    version: str
    artifact_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    top: list[int] = Field(min_length=1)
    largest: list[float] = Field(min_length=1)


class PackedWeights(Part):
    """Packed weights of the CPU artifact. ``only``: the artifact was left without the weights that they hold, and gives no number where none of ``files`` is used."""

    only: bool
    prompt: list[int] = Field(min_length=1)
    files: list[PackedFile] = Field(min_length=1)


class PackedProof(Part):
    """Whether the artifact gives the same logits to the bit with the packed weights of ``isa`` as with its own, over ``positions``."""

    isa: str
    equal_bits: bool
    positions: int = Field(ge=1)
