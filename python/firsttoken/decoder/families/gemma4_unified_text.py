"""The text decoder of Gemma 4 with one encoder for all: Gemma 4 without embeddings of every layer."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.gemma4_text import Gemma4, refuse_what_is_missing
from firsttoken.decoder.parts import Decoder

MODELS = "Gemma 4 12B (text)"


def describe(config: Config) -> Decoder:
    refuse_what_is_missing(config)
    return Gemma4(config, None).decoder()
