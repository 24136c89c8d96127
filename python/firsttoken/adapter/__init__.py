"""LoRA adapters: what ``adapter_config.json`` says, and a base checkpoint with one merged in as it is streamed."""
