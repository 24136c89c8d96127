"""LiteRT-LM's container with our graphs under its signatures: what AI Edge Gallery and the litert-lm package run."""
