"""What every object of a manifest is: strict, and without fields that nobody knows."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)


def without_absent(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leaves out fields that are None: readers of bundles without them need not know them."""
    return {name: value for name, value in values.items() if value is not None or name not in names}
