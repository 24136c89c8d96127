// What engine/NativeFunctions.kt declares. A program is known to Java by a number that is never used twice, so one that is closed is refused, not followed.
#include <jni.h>

#include "program.h"
#include "shipped_weights.h"

#define FIRSTTOKEN_JAVA(result, name) extern "C" JNIEXPORT result JNICALL Java_dev_firsttoken_demo_engine_NativeFunctions_##name

namespace {

using firsttoken::Failure;
using firsttoken::Program;
using firsttoken::Shape;

std::mutex programs_mutex;
auto& programs = *new std::map<jlong, std::shared_ptr<Program>>();
jlong last_program = 0;

std::shared_ptr<Program> program(jlong number) {
  std::lock_guard<std::mutex> lock(programs_mutex);
  auto found = programs.find(number);
  if (found == programs.end()) throw Failure("the model is closed; load the bundle again");
  return found->second;
}

// Java's strings have an encoding of their own, and one that is not valid ends an Android process.
jstring java_text(JNIEnv* env, std::string text) {
  for (char& letter : text) {
    if (static_cast<unsigned char>(letter) >= 0x80 || letter == 0) letter = '?';
  }
  return env->NewStringUTF(text.c_str());
}

std::string text_of(JNIEnv* env, jbyteArray bytes) {
  std::string text(static_cast<size_t>(env->GetArrayLength(bytes)), '\0');
  env->GetByteArrayRegion(bytes, 0, static_cast<jsize>(text.size()), reinterpret_cast<jbyte*>(text.data()));
  return text;
}

std::vector<Shape> shapes_of(JNIEnv* env, jobjectArray arrays) {
  std::vector<Shape> shapes;
  for (jsize n = 0, size = env->GetArrayLength(arrays); n < size; ++n) {
    auto array = static_cast<jintArray>(env->GetObjectArrayElement(arrays, n));
    Shape shape(static_cast<size_t>(env->GetArrayLength(array)));
    env->GetIntArrayRegion(array, 0, static_cast<jsize>(shape.size()), shape.data());
    env->DeleteLocalRef(array);
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

jobjectArray java_texts(JNIEnv* env, const std::vector<std::string>& texts) {
  jobjectArray made = env->NewObjectArray(static_cast<jsize>(texts.size()), env->FindClass("java/lang/String"), nullptr);
  for (size_t n = 0; made && n < texts.size(); ++n) {
    jstring one = java_text(env, texts[n]);
    env->SetObjectArrayElement(made, static_cast<jsize>(n), one);
    env->DeleteLocalRef(one);
  }
  return made;
}

// Runs `body`; what it raises becomes an exception of Java, which the caller sees when this returns.
template <typename Result, typename Body>
Result guarded(JNIEnv* env, Result otherwise, Body body) {
  std::string message;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    message = "no memory is left; close other apps";
  } catch (const std::exception& error) {
    message = error.what();
  }
  jclass type = env->FindClass("java/lang/IllegalStateException");
  jmethodID made = env->GetMethodID(type, "<init>", "(Ljava/lang/String;)V");
  if (jobject error = env->NewObject(type, made, java_text(env, message))) env->Throw(static_cast<jthrowable>(error));
  return otherwise;
}

}  // namespace

FIRSTTOKEN_JAVA(void, find)(JNIEnv* env, jobject, jbyteArray library) {
  guarded(env, 0, [&] { return firsttoken::litert(text_of(env, library)), 0; });
}

FIRSTTOKEN_JAVA(jlong, open)(JNIEnv* env, jobject, jbyteArray library, jbyteArray model, jint threads, jbyteArray weight_cache, jboolean is_only_read) {
  return guarded(env, jlong{0}, [&] {
    const auto& api = firsttoken::litert(text_of(env, library));
    const std::string artifact = text_of(env, model);
    firsttoken::PackedWeights packed{text_of(env, weight_cache)};
    if (is_only_read) packed.descriptor = firsttoken::open_to_read(packed.file);
    if (!packed.file.empty()) firsttoken::read_ahead(packed.file);
    auto made = std::make_shared<Program>(api, artifact, threads, packed);
    if (!packed.file.empty()) firsttoken::read_single_pages(artifact);
    std::lock_guard<std::mutex> lock(programs_mutex);
    programs[++last_program] = made;
    return last_program;
  });
}

FIRSTTOKEN_JAVA(jboolean, takes)(JNIEnv* env, jobject, jbyteArray library, jbyteArray packed, jbyteArray folder) {
  return guarded(env, jboolean{JNI_FALSE}, [&]() -> jboolean {
    return firsttoken::takes_kernels(firsttoken::litert(text_of(env, library)), text_of(env, packed), text_of(env, folder));
  });
}

FIRSTTOKEN_JAVA(jlong, capability)(JNIEnv*, jobject, jboolean second) { return static_cast<jlong>(firsttoken::capability(second)); }

FIRSTTOKEN_JAVA(jobjectArray, signatures)(JNIEnv* env, jobject, jlong handle) {
  return guarded(env, jobjectArray{nullptr}, [&] {
    auto found = program(handle);
    std::vector<std::string> names;
    for (size_t n = 0; n < found->signatures(); ++n) names.push_back(found->signature(n).name);
    return java_texts(env, names);
  });
}

FIRSTTOKEN_JAVA(jobjectArray, inputs)(JNIEnv* env, jobject, jlong handle, jint signature) {
  return guarded(env, jobjectArray{nullptr}, [&] { return java_texts(env, program(handle)->signature(signature).inputs); });
}

FIRSTTOKEN_JAVA(jobjectArray, outputs)(JNIEnv* env, jobject, jlong handle, jint signature) {
  return guarded(env, jobjectArray{nullptr}, [&] { return java_texts(env, program(handle)->signature(signature).outputs); });
}

FIRSTTOKEN_JAVA(void, reserve)(JNIEnv* env, jobject, jlong handle, jint signature, jobjectArray inputs) {
  guarded(env, 0, [&] { return program(handle)->reserve(signature, shapes_of(env, inputs)), 0; });
}

FIRSTTOKEN_JAVA(jobjectArray, prepare)(JNIEnv* env, jobject, jlong handle, jint signature, jobjectArray inputs, jobjectArray outputs) {
  return guarded(env, jobjectArray{nullptr}, [&] {
    auto found = program(handle);
    const auto& tensors = found->prepare(signature, shapes_of(env, inputs), shapes_of(env, outputs)).tensors;
    jobjectArray made = env->NewObjectArray(static_cast<jsize>(tensors.size()), env->FindClass("java/nio/ByteBuffer"), nullptr);
    for (size_t n = 0; made && n < tensors.size(); ++n) {
      jobject buffer = env->NewDirectByteBuffer(tensors[n].data, static_cast<jlong>(tensors[n].bytes));
      env->SetObjectArrayElement(made, static_cast<jsize>(n), buffer);
      env->DeleteLocalRef(buffer);
    }
    return made;
  });
}

FIRSTTOKEN_JAVA(void, run)(JNIEnv* env, jobject, jlong handle, jint signature) {
  guarded(env, 0, [&] { return program(handle)->run(signature), 0; });
}

FIRSTTOKEN_JAVA(void, close)(JNIEnv*, jobject, jlong handle) {
  std::shared_ptr<Program> last;  // freed outside the lock, when a run on another thread has ended too
  std::lock_guard<std::mutex> lock(programs_mutex);
  auto found = programs.find(handle);
  if (found == programs.end()) return;
  last = std::move(found->second);
  programs.erase(found);
}
