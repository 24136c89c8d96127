#include "program.h"

#include <sys/mman.h>

#include <algorithm>

namespace firsttoken {
namespace {

constexpr size_t kReadPast = 128;  // bytes that XNNPACK may read past a tensor's end
const char kExport[] = "export the bundle again, or copy it again";
const char kReport[] = "the bundle does not fit this app; export it again";

size_t bytes_of(int32_t element) {
  switch (element) {
    case 1: case 2: return 4;  // float32, int32
    case 4: return 8;          // int64
    case 6: case 9: return 1;  // bool, int8
    case 10: return 2;         // float16
    default: throw Failure("a tensor has LiteRT's type " + std::to_string(element) + ", which this app does not know; " + kReport);
  }
}

std::string text(const Shape& shape) {
  std::string said = "[";
  for (size_t n = 0; n < shape.size(); ++n) said += (n ? ", " : "") + std::to_string(shape[n]);
  return said + "]";
}

TensorType type_of(int32_t element, const Shape& shape) {
  TensorType type{element, {}};
  type.layout.rank = static_cast<uint32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), type.layout.dimensions);
  return type;
}

size_t size_of(const std::string& name, int32_t element, const Shape& shape) {
  size_t bytes = bytes_of(element);
  if (shape.size() > kMaxRank) throw Failure("tensor '" + name + "' of shape " + text(shape) + ": expected " + std::to_string(kMaxRank) + " dimensions at most");
  for (int32_t dimension : shape) {
    if (dimension <= 0) throw Failure("tensor '" + name + "' of shape " + text(shape) + ": expected dimensions of 1 or more; " + kReport);
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(dimension), &bytes) || bytes > INT32_MAX) {
      throw Failure("tensor '" + name + "' of shape " + text(shape) + ": more than 2 GiB; export with a shorter --cache-length");
    }
  }
  return bytes;
}

size_t aligned(size_t bytes) { return (bytes + kReadPast + kAlignment - 1) / kAlignment * kAlignment; }

void count(const Signature& signature, const char* kind, size_t got, size_t wanted) {
  if (got != wanted) throw Failure("'" + signature.name + "' has " + std::to_string(wanted) + " " + kind + ", got " + std::to_string(got) + "; " + kReport);
}

void check_reserved(const Signature& signature, const std::vector<Shape>& inputs) {
  if (signature.room.size() != signature.outputs.size()) throw Failure("'" + signature.name + "' was not given its largest shapes; load the bundle again");
  count(signature, "inputs", inputs.size(), signature.inputs.size());
  for (size_t n = 0; n < inputs.size(); ++n) {
    const Shape& most = signature.largest[n];
    bool fits = inputs[n].size() == most.size();
    for (size_t axis = 0; fits && axis < most.size(); ++axis) fits = inputs[n][axis] <= most[axis];
    if (!fits) throw Failure("'" + signature.inputs[n] + "' of '" + signature.name + "' has shape " + text(inputs[n]) + ", expected " + text(most) + " at most; " + kReport);
  }
}

std::string quoted(const std::string& text) {  // as a basic string of TOML
  std::string made = "\"";
  for (char letter : text) {
    if (letter == '"' || letter == '\\') made += '\\';
    made += letter;
  }
  return made + "\"";
}

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw Failure("no memory for " + std::to_string(bytes) + " bytes of tensors; close other apps, or ask with a shorter prompt");
  start_ = static_cast<char*>(mapped);
}

Memory::~Memory() { munmap(start_, bytes_); }

Call::~Call() {
  for (Handle handle : inputs) api.DestroyTensorBuffer(handle);
  for (Handle handle : outputs) api.DestroyTensorBuffer(handle);
}

Program::Program(const Api& api, const std::string& model, int threads, const PackedWeights& packed) : api_(api) {
  try {
    load(model, threads, packed);
    read_signatures();
  } catch (...) {
    release();
    throw;
  }
}

Program::~Program() { release(); }

void Program::load(const std::string& model, int threads, const PackedWeights& packed) {
  EnvironmentOption silent{kMinLoggerSeverity, {kAnyInt, kSilent}};
  check(api_.CreateEnvironment(1, &silent, &environment_), "starting", "start the app again");
  check(api_.CreateModelFromFile(environment_, model.c_str(), &model_), "reading " + model, kExport);
  // ":memory" shares packed weights between signatures without a file.
  options_text_ = "num_threads = " + std::to_string(threads) + "\n";
  if (packed.descriptor >= 0) {
    options_text_ += "weight_cache_file_path = \"packed\"\nweight_cache_file_descriptor = " + std::to_string(packed.descriptor) + "\n";
  } else {
    options_text_ += "weight_cache_file_path = " + quoted(packed.file.empty() ? ":memory" : packed.file) + "\n";
  }
  Handle cpu = nullptr;
  check(api_.CreateOptions(&options_), "making options", kReport);
  check(api_.SetOptionsHardwareAccelerators(options_, kCpu), "choosing the CPU", kReport);
  check(api_.CreateOpaqueOptions("xnnpack", options_text_.data(), [](void*) {}, &cpu), "making CPU options", kReport);
  check(api_.AddOpaqueOptions(options_, cpu), "adding CPU options", kReport);
  check(api_.CreateCompiledModel(environment_, model_, options_, &compiled_), "loading " + model, kExport);
}

void Program::release() {
  signatures_.clear();
  if (compiled_) api_.DestroyCompiledModel(compiled_);
  if (options_) api_.DestroyOptions(options_);
  if (model_) api_.DestroyModel(model_);
  if (environment_) api_.DestroyEnvironment(environment_);
}

void Program::read_signatures() {
  size_t number = 0;
  check(api_.GetNumModelSignatures(model_, &number), "listing signatures", kExport);
  for (size_t n = 0; n < number; ++n) {
    Handle found = nullptr;
    const char* name = nullptr;
    check(api_.GetModelSignature(model_, n, &found), "reading a signature", kExport);
    check(api_.GetSignatureKey(found, &name), "reading a signature's name", kExport);
    Signature signature;
    signature.name = name;
    auto tensors = [&](auto count, auto name_of, auto tensor_of, std::vector<std::string>& names, std::vector<int32_t>& elements, std::vector<Shape>* shapes) {
      size_t tensors = 0;
      check(count(found, &tensors), "counting tensors", kExport);
      for (size_t place = 0; place < tensors; ++place) {
        const char* tensor_name = nullptr;
        Handle tensor = nullptr;
        TensorType type{};
        check(name_of(found, place, &tensor_name), "naming a tensor", kExport);
        check(tensor_of(found, place, &tensor), "reading a tensor", kExport);
        check(api_.GetRankedTensorType(tensor, &type), "reading a tensor's type", kExport);
        names.push_back(tensor_name);
        elements.push_back(type.element_type);
        uint32_t rank = std::min<uint32_t>(type.layout.rank & 0x7f, kMaxRank);
        if (shapes) shapes->emplace_back(type.layout.dimensions, type.layout.dimensions + rank);
      }
    };
    tensors(api_.GetNumSignatureInputs, api_.GetSignatureInputName, api_.GetSignatureInputTensorByIndex, signature.inputs, signature.input_elements, &signature.shapes);
    tensors(api_.GetNumSignatureOutputs, api_.GetSignatureOutputName, api_.GetSignatureOutputTensorByIndex, signature.outputs, signature.output_elements, nullptr);
    signatures_.push_back(std::move(signature));
  }
}

const Signature& Program::signature(size_t number) const {
  if (number >= signatures_.size()) throw Failure("signature " + std::to_string(number) + " of " + std::to_string(signatures_.size()) + "; " + kReport);
  return signatures_[number];
}

void Program::resize(size_t number, const std::vector<Shape>& inputs) {
  Signature& signature = signatures_[number];
  count(signature, "inputs", inputs.size(), signature.inputs.size());
  for (size_t n = 0; n < inputs.size(); ++n) {
    size_of(signature.inputs[n], signature.input_elements[n], inputs[n]);
    if (inputs[n] == signature.shapes[n]) continue;
    const std::string what = "giving '" + signature.inputs[n] + "' of '" + signature.name + "' the shape " + text(inputs[n]);
    check(api_.CompiledModelResizeInputTensor(compiled_, number, n, inputs[n].data(), inputs[n].size()), what, kReport);
    signature.shapes[n] = inputs[n];
  }
}

std::vector<Shape> Program::output_shapes(size_t number, bool allocate) {
  std::vector<Layout> layouts(signatures_[number].outputs.size());
  const std::string what = "making room for '" + signatures_[number].name + "'";
  check(api_.GetCompiledModelOutputTensorLayouts(compiled_, number, layouts.size(), layouts.data(), allocate), what, kReport);
  std::vector<Shape> shapes;
  for (const Layout& layout : layouts) shapes.emplace_back(layout.dimensions, layout.dimensions + std::min<uint32_t>(layout.rank & 0x7f, kMaxRank));
  return shapes;
}

void Program::reserve(size_t number, const std::vector<Shape>& inputs) {
  std::lock_guard<std::mutex> lock(mutex_);
  signature(number);
  resize(number, inputs);
  Signature& signature = signatures_[number];
  signature.room.clear();
  const auto shapes = output_shapes(number, true);
  for (size_t n = 0; n < shapes.size(); ++n) signature.room.push_back(size_of(signature.outputs[n], signature.output_elements[n], shapes[n]));
  signature.largest = inputs;
}

const Call& Program::prepare(size_t number, const std::vector<Shape>& inputs, const std::vector<Shape>& outputs) {
  std::lock_guard<std::mutex> lock(mutex_);
  signature(number);
  Signature& signature = signatures_[number];
  count(signature, "outputs", outputs.size(), signature.outputs.size());
  signature.older = std::move(signature.prepared);  // where this fails there is nothing to run
  check_reserved(signature, inputs);
  resize(number, inputs);
  std::vector<size_t> sizes;
  for (size_t n = 0; n < inputs.size(); ++n) sizes.push_back(size_of(signature.inputs[n], signature.input_elements[n], inputs[n]));
  for (size_t n = 0; n < outputs.size(); ++n) sizes.push_back(size_of(signature.outputs[n], signature.output_elements[n], outputs[n]));
  // An output has room for all that the runtime could ever write, whatever was asked for; pages that are not touched cost nothing.
  auto place_of = [&](size_t n) { return aligned(n < inputs.size() ? sizes[n] : std::max(sizes[n], signature.room[n - inputs.size()])); };
  size_t whole = 0;
  for (size_t n = 0; n < sizes.size(); ++n) whole += place_of(n);
  auto call = std::make_shared<Call>(api_, whole);
  size_t offset = 0;
  for (size_t n = 0; n < sizes.size(); ++n) {
    const bool is_input = n < inputs.size();
    const size_t place = is_input ? n : n - inputs.size();
    const TensorType type = type_of((is_input ? signature.input_elements : signature.output_elements)[place], (is_input ? inputs : outputs)[place]);
    void* data = call->memory.start() + offset;
    Handle handle = nullptr;
    const std::string& name = (is_input ? signature.inputs : signature.outputs)[place];
    check(api_.CreateTensorBufferFromHostMemory(&type, data, sizes[n], nullptr, &handle), "binding '" + name + "' of '" + signature.name + "'", kReport);
    (is_input ? call->inputs : call->outputs).push_back(handle);
    call->tensors.push_back({data, sizes[n]});
    offset += place_of(n);
  }
  call->returned = outputs;
  signature.prepared = call;
  return *call;
}

void Program::run(size_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  signature(number);
  Signature& signature = signatures_[number];
  auto call = signature.prepared;
  if (!call) throw Failure("'" + signature.name + "' was not given its shapes, or they were refused; load the bundle again");
  const int status = api_.RunCompiledModel(compiled_, number, call->inputs.size(), call->inputs.data(), call->outputs.size(), call->outputs.data());
  check(status, "running '" + signature.name + "'", "load the bundle again; where that does not help, export it again");
  signature.bound = call;
  signature.older.reset();
  if (call->is_checked) return;
  const auto shapes = output_shapes(number, false);
  for (size_t n = 0; n < shapes.size(); ++n) {
    if (shapes[n] == call->returned[n]) continue;
    signature.prepared.reset();
    throw Failure("'" + signature.name + "' returned '" + signature.outputs[n] + "' of shape " + text(shapes[n]) + ", expected " + text(call->returned[n]) + "; " + kReport);
  }
  call->is_checked = true;
}

}  // namespace firsttoken
