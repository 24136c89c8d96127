// The few functions of LiteRT's C API that the runner calls, found in libLiteRt.so when it is asked for, so that this library loads where
// LiteRT is not. The structures are those that LiteRT's headers mark ABI stable (litert_layout.h, litert_model_types.h, litert_any.h);
// python/firsttoken/backends/tflite/litert.py declares the same ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace firsttoken {

constexpr int kMaxRank = 8;
constexpr size_t kAlignment = 64;  // LITERT_HOST_MEMORY_BUFFER_ALIGNMENT
constexpr int kCpu = 1;            // kLiteRtHwAcceleratorCpu
constexpr int kMinLoggerSeverity = 25, kAnyInt = 2, kSilent = 4;  // an environment's option, its kind and its value

struct Layout {
  uint32_t rank;  // a seven-bit field whose neighbour, has_strides, stays 0
  int32_t dimensions[kMaxRank];
  uint32_t strides[kMaxRank];
};

struct TensorType {
  int32_t element_type;
  Layout layout;
};

struct Any {
  int32_t type;
  int64_t value;
};

struct EnvironmentOption {
  int32_t tag;
  Any value;
};

static_assert(sizeof(Layout) == 68 && sizeof(TensorType) == 72 && sizeof(EnvironmentOption) == 24, "LiteRT's structures have these sizes");

// What went wrong and what to do; the bridge to Java makes an exception of it.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Handle = void*;

#define FIRSTTOKEN_LITERT_FUNCTIONS(F)                                                          \
  F(int, CreateEnvironment, (int, const EnvironmentOption*, Handle*))                           \
  F(int, CreateModelFromFile, (Handle, const char*, Handle*))                                   \
  F(int, CreateOptions, (Handle*))                                                              \
  F(int, SetOptionsHardwareAccelerators, (Handle, int))                                         \
  F(int, CreateOpaqueOptions, (const char*, void*, void (*)(void*), Handle*))                   \
  F(int, AddOpaqueOptions, (Handle, Handle))                                                    \
  F(int, CreateCompiledModel, (Handle, Handle, Handle, Handle*))                                \
  F(int, GetNumModelSignatures, (Handle, size_t*))                                              \
  F(int, GetModelSignature, (Handle, size_t, Handle*))                                          \
  F(int, GetSignatureKey, (Handle, const char**))                                               \
  F(int, GetNumSignatureInputs, (Handle, size_t*))                                              \
  F(int, GetNumSignatureOutputs, (Handle, size_t*))                                             \
  F(int, GetSignatureInputName, (Handle, size_t, const char**))                                 \
  F(int, GetSignatureOutputName, (Handle, size_t, const char**))                                \
  F(int, GetSignatureInputTensorByIndex, (Handle, size_t, Handle*))                             \
  F(int, GetSignatureOutputTensorByIndex, (Handle, size_t, Handle*))                            \
  F(int, GetRankedTensorType, (Handle, TensorType*))                                            \
  F(int, CompiledModelResizeInputTensor, (Handle, size_t, size_t, const int*, size_t))          \
  F(int, GetCompiledModelOutputTensorLayouts, (Handle, size_t, size_t, Layout*, bool))          \
  F(int, CreateTensorBufferFromHostMemory, (const TensorType*, void*, size_t, void (*)(void*), Handle*)) \
  F(int, RunCompiledModel, (Handle, size_t, size_t, Handle*, size_t, Handle*))                  \
  F(void, DestroyTensorBuffer, (Handle))                                                        \
  F(void, DestroyOptions, (Handle))                                                             \
  F(void, DestroyCompiledModel, (Handle))                                                       \
  F(void, DestroyModel, (Handle))                                                               \
  F(void, DestroyEnvironment, (Handle))

struct Api {
#define FIRSTTOKEN_MEMBER(result, name, parameters) result(*name) parameters = nullptr;
  FIRSTTOKEN_LITERT_FUNCTIONS(FIRSTTOKEN_MEMBER)
#undef FIRSTTOKEN_MEMBER
};

// Loads `library`, a name that the linker finds or a path; it stays loaded. Raises `Failure` naming the library or the function that is missing.
const Api& litert(const std::string& library);

// Raises `Failure` saying what failed with which status, and what to do, for a status other than success.
void check(int status, const std::string& what, const std::string& todo);

}  // namespace firsttoken
