package org.pytorch.executorch;

/** Compile-only: what the app calls of ExecuTorch's class of this name. Never packaged. */
public class Module {
  public static final int LOAD_MODE_MMAP = 1;

  public static Module load(String modelPath, int loadMode, int numThreads) {
    throw new UnsupportedOperationException("a stub");
  }

  public void loadMethod(String methodName) {
    throw new UnsupportedOperationException("a stub");
  }

  public EValue[] execute(String methodName, EValue... inputs) {
    throw new UnsupportedOperationException("a stub");
  }

  public void destroy() {
    throw new UnsupportedOperationException("a stub");
  }
}
