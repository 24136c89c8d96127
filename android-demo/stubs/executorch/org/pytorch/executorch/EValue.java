package org.pytorch.executorch;

/** Compile-only: what the app calls of ExecuTorch's class of this name. Never packaged. */
public class EValue {
  public static EValue from(Tensor tensor) {
    throw new UnsupportedOperationException("a stub");
  }

  public Tensor toTensor() {
    throw new UnsupportedOperationException("a stub");
  }
}
