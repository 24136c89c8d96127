"""GGUF, llama.cpp's file: header, storage types, configuration, tokenizer, and the checkpoint that they make together."""
