// A .pte of firsttoken run by ExecuTorch's C++ runtime, with a plain C face for backends/executorch/native.py.
//
// What the Python bindings do not give: XNNPACK's packed weights in a file, which the next start maps; arenas that are taken page by
// page, as they are used; and those arenas themselves, in which the program's own buffers, the KV cache among them, lie.
// Built by native_build.py against the executorch wheel.

#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/backend/backend_options_map.h>
#include <executorch/runtime/backend/options.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

// The wheel has this library but not its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t new_thread_count);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using namespace executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::MmapDataLoader;
using executorch::extension::threadpool::get_threadpool;

namespace {

constexpr int32_t kMostDimensions = 4;

// Zeros that take no memory until they are touched.
struct Arena {
  explicit Arena(size_t bytes) : size(bytes) {
    if (!bytes) return;
    address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) address = nullptr;
  }
  Arena(Arena&& other) noexcept : address(other.address), size(other.size) { other.address = nullptr; }
  ~Arena() {
    if (address) munmap(address, size);
  }
  void* address = nullptr;
  size_t size;
};

struct Model {
  std::unique_ptr<MmapDataLoader> loader;
  std::unique_ptr<Program> program;
  std::vector<Arena> arenas;
  std::vector<Span<uint8_t>> spans;
  std::unique_ptr<HierarchicalAllocator> planned;
  MallocMemoryAllocator kept, temporary;
  std::unique_ptr<MemoryManager> memory;
  std::optional<Method> method;  // last: it goes first
};

Error Load(Model& model, const char* path, const char* packed) {
  // No page is locked: what the packed weights stand for need not stay in memory.
  auto loader = MmapDataLoader::from(path, MmapDataLoader::MlockConfig::NoMlock);
  if (!loader.ok()) return loader.error();
  model.loader = std::make_unique<MmapDataLoader>(std::move(loader.get()));
  auto program = Program::load(model.loader.get(), Program::Verification::InternalConsistency);
  if (!program.ok()) return program.error();
  model.program = std::make_unique<Program>(std::move(program.get()));
  const auto facts = model.program->method_meta("forward");
  if (!facts.ok()) return facts.error();
  for (size_t index = 0; index < facts->num_memory_planned_buffers(); ++index) {
    const auto size = facts->memory_planned_buffer_size(index);
    if (!size.ok()) return size.error();
    Arena arena(static_cast<size_t>(size.get()));
    if (arena.size && !arena.address) return Error::MemoryAllocationFailed;
    model.spans.emplace_back(static_cast<uint8_t*>(arena.address), arena.size);
    model.arenas.push_back(std::move(arena));
  }
  model.planned = std::make_unique<HierarchicalAllocator>(Span<Span<uint8_t>>(model.spans.data(), model.spans.size()));
  model.memory = std::make_unique<MemoryManager>(&model.kept, model.planned.get(), &model.temporary);

  BackendOptions<2> options;
  LoadBackendOptionsMap map;
  if (packed) {
    if (std::strlen(packed) >= kMaxOptionValueLength) return Error::InvalidArgument;  // it would be cut without a word
    if (const Error error = options.set_option("packed_cache_path", packed); error != Error::Ok) return error;
    if (const Error error = options.set_option("weight_cache_enabled", true); error != Error::Ok) return error;
    if (const Error error = map.set_options("XnnpackBackend", options.view()); error != Error::Ok) return error;
  }
  auto method = model.program->load_method("forward", model.memory.get(), nullptr, nullptr, packed ? &map : nullptr);
  if (!method.ok()) return method.error();
  model.method.emplace(std::move(method.get()));
  return Error::Ok;
}

}  // namespace

extern "C" {

// int64 values of `rank` dimensions.
struct firsttoken_input {
  int64_t* values;
  int32_t rank;
  int32_t sizes[kMostDimensions];
};

// Loads the method `forward`; `packed` is the file of XNNPACK's packed weights, read if it is one and else written, or null. Errors are those of
// ExecuTorch's runtime/core/error.h, 0 for none.
int32_t firsttoken_open(const char* path, const char* packed, void** opened) {
  runtime_init();
  auto model = std::make_unique<Model>();
  const Error error = Load(*model, path, packed);
  *opened = error == Error::Ok ? model.release() : nullptr;
  return static_cast<int32_t>(error);
}

// The memory that the program planned under `index`; null past the last.
void* firsttoken_arena(void* opened, uint32_t index, uint64_t* bytes) {
  const auto& arenas = static_cast<Model*>(opened)->arenas;
  *bytes = index < arenas.size() ? arenas[index].size : 0;
  return index < arenas.size() ? arenas[index].address : nullptr;
}

// Runs the method and copies its first output, float32, into `output`, which takes `room` values; `count` is how many there were.
int32_t firsttoken_run(void* opened, firsttoken_input* inputs, uint32_t input_count, float* output, int64_t room, int64_t* count) {
  Method& method = *static_cast<Model*>(opened)->method;
  if (input_count != method.inputs_size()) return static_cast<int32_t>(Error::InvalidArgument);
  *count = 0;
  for (uint32_t index = 0; index < input_count; ++index) {
    firsttoken_input& given = inputs[index];
    if (given.rank < 0 || given.rank > kMostDimensions) return static_cast<int32_t>(Error::InvalidArgument);
    TensorImpl::DimOrderType order[kMostDimensions] = {0, 1, 2, 3};
    TensorImpl::StridesType strides[kMostDimensions];
    TensorImpl::StridesType stride = 1;
    for (int32_t place = given.rank; place-- > 0; stride *= given.sizes[place]) strides[place] = stride;
    TensorImpl tensor(ScalarType::Long, given.rank, given.sizes, given.values, order, strides);
    if (const Error error = method.set_input(EValue(Tensor(&tensor)), index); error != Error::Ok) return static_cast<int32_t>(error);
  }
  if (const Error error = method.execute(); error != Error::Ok) return static_cast<int32_t>(error);
  const EValue& result = method.get_output(0);
  if (!result.isTensor() || result.toTensor().scalar_type() != ScalarType::Float) return static_cast<int32_t>(Error::InvalidType);
  const Tensor logits = result.toTensor();
  *count = logits.numel();
  if (*count > room) return static_cast<int32_t>(Error::InvalidArgument);
  std::memcpy(output, logits.const_data_ptr(), logits.nbytes());
  return 0;
}

void firsttoken_close(void* opened) { delete static_cast<Model*>(opened); }

uint32_t firsttoken_threads() { return static_cast<uint32_t>(get_threadpool()->get_thread_count()); }

int32_t firsttoken_set_threads(uint32_t threads) { return get_threadpool()->_unsafe_reset_threadpool(threads); }
}
