"""Choosing integers for weights by what a model's layers meet on text, where a plan asks for it (``method = "gptq"``)."""
