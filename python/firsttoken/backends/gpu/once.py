"""The process that runs a .tflite on the GPU once, for `firsttoken.backends.gpu.child`: MODEL INPUTS OUTPUTS [SIGNATURE]."""

import sys

import numpy as np


def main(path: str, given: str, got: str, signature: str = "") -> None:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    # the CPU too, so that an operator which the GPU leaves is counted and not the end
    model = CompiledModel.from_file(path, hardware_accel=HardwareAccelerator.GPU | HardwareAccelerator.CPU)
    signatures = model.get_signature_list()
    name = signature or next(iter(signatures))
    inputs, outputs = {}, {name_: model.create_output_buffer_by_name(name, name_) for name_ in signatures[name]["outputs"]}
    with np.load(given) as arrays:
        for tensor in signatures[name]["inputs"]:
            inputs[tensor] = model.create_input_buffer_by_name(name, tensor)
            inputs[tensor].write(np.ascontiguousarray(arrays[tensor]))
    model.run_by_name(name, inputs, outputs)
    described = model.get_output_tensor_details(name)
    found = {}
    for tensor, buffer in outputs.items():
        shape, dtype = [int(n) for n in described[tensor]["shape"]], np.dtype(described[tensor]["dtype"])
        found[f"out.{tensor}"] = np.asarray(buffer.read(int(np.prod(shape)), dtype)).reshape(shape)
    np.savez(got, fully=np.array(bool(model.is_fully_accelerated())), **found)  # type: ignore[arg-type]  # names begin with "out."


if __name__ == "__main__":
    main(*sys.argv[1:])
