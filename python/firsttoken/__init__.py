"""firsttoken: from a language-model checkpoint to its first token on a phone."""
