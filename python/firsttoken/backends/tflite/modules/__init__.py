"""Modules as .tflite files: converted by litert-torch, quantized layer by layer by litert-quantizer, and audited as they were written."""
