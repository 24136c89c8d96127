package org.pytorch.executorch;

import java.nio.FloatBuffer;

/** Compile-only: what the app calls of ExecuTorch's class of this name. Never packaged. */
public abstract class Tensor {
  public static Tensor fromBlob(long[] data, long[] shape) {
    throw new UnsupportedOperationException("a stub");
  }

  public static Tensor fromBlob(FloatBuffer data, long[] shape) {
    throw new UnsupportedOperationException("a stub");
  }

  public abstract float[] getDataAsFloatArray();
}
