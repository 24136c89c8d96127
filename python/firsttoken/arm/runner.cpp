// The end inside the emulated machine for .pte: ExecuTorch's Module, served over standard input and output.
//
//   runner model.pte
//
// The protocol is that of backends/remote.py: requests of three int32 (operation, position, count) and tokens, answers of two
// int32 (status, count) and float32 logits, or text. Built by build.py against the ARM libraries of the executorch wheel.
// The calls are those of firsttoken/backends/executorch/runner.py: tokens int64 [1, S], cache_position int64 [S].

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

// The wheel has this library but not its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t new_thread_count);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::aten::ScalarType;
using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::runtime::Error;
using executorch::runtime::EValue;

namespace {

enum Operation { kReset = 0, kPrefill = 1, kDecode = 2 };
enum Status { kDone = 0, kFailed = 1 };
constexpr int32_t kMostTokens = 1 << 20;

FILE* answers;

void Answer(Status status, const void* body, int32_t count, size_t bytes) {
  const int32_t head[2] = {status, count};
  fwrite(head, sizeof head, 1, answers);
  if (bytes) fwrite(body, bytes, 1, answers);
  fflush(answers);
}

int Fail(const std::string& text) {
  Answer(kFailed, text.data(), static_cast<int32_t>(text.size()), text.size());
  return 1;
}

std::string Named(Error error) { return "error " + std::to_string(static_cast<int>(error)) + " of ExecuTorch's runtime/core/error.h"; }

}  // namespace

int main(int count, char** arguments) {
  // whatever else writes to standard output must not get between the answers
  answers = fdopen(dup(1), "wb");
  dup2(2, 1);
  if (count != 2) return Fail("usage: runner model.pte");
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(1);
  Module module(arguments[1]);
  if (const Error error = module.load_method("forward"); error != Error::Ok)
    return Fail(std::string("ExecuTorch cannot load ") + arguments[1] + " (" + Named(error) + "); export it again for this runtime");
  Answer(kDone, nullptr, 0, 0);

  std::vector<int32_t> given;
  std::vector<int64_t> tokens;
  std::vector<int64_t> positions;
  for (int32_t request[3]; fread(request, sizeof request, 1, stdin) == 1;) {
    const int32_t length = request[2];
    const int64_t position = request[1];
    if (length < 0 || length > kMostTokens || position < 0 || position > kMostTokens) return Fail("a request of impossible size");
    given.resize(length);
    if (length && fread(given.data(), sizeof(int32_t), length, stdin) != static_cast<size_t>(length)) return 0;
    if (request[0] == kReset) {  // the program masks what is left in the cache
      Answer(kDone, nullptr, 0, 0);
      continue;
    }
    tokens.assign(given.begin(), given.end());
    positions.resize(length);
    std::iota(positions.begin(), positions.end(), position);
    auto token_tensor = from_blob(tokens.data(), {1, length}, ScalarType::Long);
    auto position_tensor = from_blob(positions.data(), {length}, ScalarType::Long);
    // getppid marks in the emulator's log where the work begins and ends (firsttoken.arm.instructions)
    getppid();
    auto result = module.forward({EValue(token_tensor), EValue(position_tensor)});
    getppid();
    if (!result.ok())
      return Fail("ExecuTorch: running " + std::to_string(length) + " tokens at position " + std::to_string(position) + " failed (" +
                  Named(result.error()) + ")");
    const auto logits = result->at(0).toTensor();
    if (logits.scalar_type() != ScalarType::Float) return Fail("the program returns logits that are not float32");
    Answer(kDone, logits.const_data_ptr(), static_cast<int32_t>(logits.numel()), logits.nbytes());
  }
  return 0;
}
