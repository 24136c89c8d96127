#!/usr/bin/env python3
"""Completes a text with a bundle of firsttoken's target onnx-cpu in onnxruntime-genai: `pip install onnxruntime-genai`, nothing of firsttoken.

python generate.py out/onnx-cpu "def close(self):" 64
"""

import argparse
import json

import onnxruntime_genai as genai


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("text")
    parser.add_argument("count", type=int, nargs="?", default=64)
    parser.add_argument("--tokens", action="store_true", help="print the tokens as JSON in place of the text")
    asked = parser.parse_args()

    model = genai.Model(asked.bundle)
    tokenizer = genai.Tokenizer(model)
    prompt = [int(token) for token in tokenizer.encode(asked.text)]
    settings = genai.GeneratorParams(model)
    settings.set_search_options(max_length=len(prompt) + asked.count, do_sample=False)
    generator = genai.Generator(model, settings)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    answer = [int(token) for token in generator.get_sequence(0)[len(prompt) :]]
    print(json.dumps({"prompt": prompt, "answer": answer}) if asked.tokens else tokenizer.decode(answer))


if __name__ == "__main__":
    main()
