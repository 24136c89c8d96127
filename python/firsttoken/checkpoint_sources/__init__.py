"""Where a checkpoint may come from: a folder, a GGUF file, the hub, a package; with a LoRA adapter; and written as a folder again."""
