"""Ministral: Mistral with a sliding window in the layers that ``layer_types`` names."""

from firsttoken.decoder.families.mistral import describe as describe  # its own formulas are Mistral's

MODELS = "Ministral 8B"
