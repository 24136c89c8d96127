// A loaded .tflite file whose signatures run in place on memory of their own: nothing of it is in the app's heap.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "litert_api.h"

namespace firsttoken {

using Shape = std::vector<int32_t>;

// Zeros, page after page only where they are touched, at an address that LiteRT takes without copying.
class Memory {
 public:
  explicit Memory(size_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* start() const { return start_; }

 private:
  char* start_;
  size_t bytes_;
};

struct Tensor {
  void* data;
  size_t bytes;
};

// A signature's tensors at one set of shapes, bound for LiteRT.
struct Call {
  Call(const Api& api, size_t bytes) : api(api), memory(bytes) {}
  ~Call();
  const Api& api;
  Memory memory;
  std::vector<Tensor> tensors;  // the inputs, then the outputs
  std::vector<Handle> inputs, outputs;
  std::vector<Shape> returned;  // the outputs' shapes as they were asked for
  bool is_checked = false;      // whether the runtime's are these
};

struct Signature {
  std::string name;
  std::vector<std::string> inputs, outputs;
  std::vector<int32_t> input_elements, output_elements;  // LiteRT's numbers of their types
  std::vector<Shape> shapes;                             // of the inputs, as LiteRT has them now
  std::vector<Shape> largest;                            // of the inputs; none before `reserve`
  std::vector<size_t> room;                              // bytes of each output where the inputs are the largest
  std::shared_ptr<Call> prepared;                        // what the next run takes
  std::shared_ptr<Call> older;                           // what it would have taken before the last `prepare`
  // What the last run took. XNNPACK remembers its addresses and sets up again with them when its workspace grows on behalf of another
  // signature, so it lives until the signature has run on others (python/firsttoken/backends/tflite/litert.py).
  std::shared_ptr<Call> bound;
};

// Where XNNPACK's packed weights are: in `file`, read where it is there, else written; or behind `descriptor`, which LiteRT closes. Neither: packed in memory.
struct PackedWeights {
  std::string file;
  int descriptor = -1;
};

class Program {
 public:
  // Raises `Failure`.
  Program(const Api& api, const std::string& model, int threads, const PackedWeights& packed);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Raises `Failure` for a number that is none of them.
  const Signature& signature(size_t number) const;
  size_t signatures() const { return signatures_.size(); }

  // Makes room for inputs of these shapes, the largest that will ever come, before all else: else XNNPACK's workspace grows between two calls.
  void reserve(size_t signature, const std::vector<Shape>& inputs);

  // Gives a signature these shapes, none larger than was reserved, and new memory, all zero; the memory of before lives on until the next run or `prepare`. Raises `Failure`.
  const Call& prepare(size_t signature, const std::vector<Shape>& inputs, const std::vector<Shape>& outputs);

  void run(size_t signature);

 private:
  void load(const std::string& model, int threads, const PackedWeights& packed);
  void release();
  void read_signatures();
  void resize(size_t number, const std::vector<Shape>& inputs);
  std::vector<Shape> output_shapes(size_t number, bool allocate);

  const Api& api_;
  Handle environment_ = nullptr, model_ = nullptr, options_ = nullptr, compiled_ = nullptr;
  std::string options_text_;
  std::vector<Signature> signatures_;
  std::mutex mutex_;
};

}  // namespace firsttoken
