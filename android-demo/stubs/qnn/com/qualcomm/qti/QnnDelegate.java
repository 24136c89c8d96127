package com.qualcomm.qti;

import org.tensorflow.lite.Delegate;

/** Compile-only: what the app calls of the class of this name in com.qualcomm.qti:qnn-litert-delegate. Never packaged. */
public class QnnDelegate implements Delegate {
  public enum Capability {
    HTP_RUNTIME_FP16
  }

  public static class Options {
    public enum BackendType {
      HTP_BACKEND
    }

    public enum HtpPrecision {
      HTP_PRECISION_FP16
    }

    public enum HtpPerformanceMode {
      HTP_PERFORMANCE_BURST
    }

    public void setBackendType(BackendType type) {
      throw new UnsupportedOperationException("a stub");
    }

    public void setHtpPrecision(HtpPrecision precision) {
      throw new UnsupportedOperationException("a stub");
    }

    public void setHtpPerformanceMode(HtpPerformanceMode mode) {
      throw new UnsupportedOperationException("a stub");
    }

    public void setSkelLibraryDir(String directory) {
      throw new UnsupportedOperationException("a stub");
    }

    public void setCacheDir(String directory) {
      throw new UnsupportedOperationException("a stub");
    }

    public void setModelToken(String token) {
      throw new UnsupportedOperationException("a stub");
    }
  }

  public QnnDelegate(Options options) {
    throw new UnsupportedOperationException("a stub");
  }

  public static boolean checkCapability(Capability capability) {
    throw new UnsupportedOperationException("a stub");
  }

  @Override
  public long getNativeHandle() {
    throw new UnsupportedOperationException("a stub");
  }

  @Override
  public void close() {
    throw new UnsupportedOperationException("a stub");
  }
}
