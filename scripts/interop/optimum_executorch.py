"""Runs a .pte bundle in optimum-executorch, Hugging Face's Python class for ExecuTorch's language models.

    python scripts/interop/optimum_executorch.py out/executorch-xnnpack --prompt "def read(path):"

optimum-executorch pins a version of transformers that firsttoken does not use, so it wants an environment of its own,
with the ExecuTorch that firsttoken exports with:

    python -m venv optimum && optimum/bin/pip install optimum-executorch==1.1.0 executorch==1.5.1 torch==2.13.0

The bundle's folder is all it reads: model.pte, tokenizer.json and tokenizer_config.json; no config.json. It prints the prompt
and a greedy completion; firsttoken itself is not needed here.
"""

import argparse
import logging
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is in the bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="bundle folder with model.pte")
    parser.add_argument("--prompt", default="def read(path):", help="continued as it is, without a chat template")
    parser.add_argument("--tokens", type=int, help="prompt and completion together (default: the whole cache)")
    options = parser.parse_args()
    if not (options.bundle / "model.pte").is_file():
        raise SystemExit(f"{options.bundle}: holds no model.pte; export one with firsttoken export -t executorch-xnnpack")
    logging.disable(logging.WARNING)
    try:
        from optimum.executorch import ExecuTorchModelForCausalLM
        from transformers import AutoTokenizer
    except ImportError as error:
        raise SystemExit(f"{error}; this script wants an environment of its own, see --help") from None
    model = ExecuTorchModelForCausalLM.from_pretrained(str(options.bundle), local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(str(options.bundle), local_files_only=True)
    print(model.text_generation(tokenizer, options.prompt, max_seq_len=options.tokens))


if __name__ == "__main__":
    main()
