"""GGUF, llama.cpp's file: a plan's precisions tensor by tensor, the whole tokenizer, and llama.cpp itself to run it."""
