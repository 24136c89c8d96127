"""Recipes for models that are not decoders: teacher, student from labels, student distilled, over several seeds.

`recipe` is the TOML file, `models` and `data` what it can name (or the user's own Python function), `encoder` the BERT
family, and `run` trains all of it and writes the student.
"""
