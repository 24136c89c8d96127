"""What a manifest says of a method that checks drafts."""

from pydantic import Field

from firsttoken.bundle.part import Part


class DraftProof(Part):
    """What checking several tokens in one call gives beside decoding them one by one, also after some were not taken: whether all logits are equal to
    the bit, the KL divergence in nats, and the share of ``positions`` with the same most likely token."""

    equal_bits: bool
    mean_kld: float = Field(ge=0)
    worst_kld: float = Field(ge=0)
    same_top: float = Field(ge=0, le=1)
    positions: int = Field(ge=1)
