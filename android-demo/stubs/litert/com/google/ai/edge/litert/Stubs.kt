package com.google.ai.edge.litert

// Compile-only: what the app calls of LiteRT 2.x, as its sources of August 2026 declare it (litert/kotlin/src/main/kotlin). Never packaged.

private fun stub(): Nothing = throw UnsupportedOperationException("a stub")

enum class Accelerator { CPU, GPU, NPU }

class Environment private constructor() : AutoCloseable {
    enum class Option { DispatchLibraryDir }

    override fun close(): Unit = stub()

    companion object {
        @JvmStatic
        fun create(options: Map<Option, String> = mapOf()): Environment = stub()
    }
}

enum class TensorBufferType { HostMemory }

class TensorBufferRequirements(val supportedTypes: List<TensorBufferType>)

class TensorBuffer internal constructor() : AutoCloseable {
    fun writeFloat(data: FloatArray): Unit = stub()

    fun writeInt(data: IntArray): Unit = stub()

    fun readFloat(): FloatArray = stub()

    override fun close(): Unit = stub()
}

class CompiledModel private constructor() : AutoCloseable {
    class QualcommOptions(val htpPerformanceMode: HtpPerformanceMode? = null) {
        enum class HtpPerformanceMode { BURST }
    }

    class GpuOptions(val precision: Precision? = null) {
        enum class Precision { FP32 }
    }

    class Options(vararg accelerators: Accelerator) {
        var gpuOptions: GpuOptions? = null
        var qualcommOptions: QualcommOptions? = null
    }

    fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer = stub()

    fun getInputBufferRequirements(inputName: String, signature: String = ""): TensorBufferRequirements = stub()

    fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer = stub()

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String = ""): Unit = stub()

    override fun close(): Unit = stub()

    companion object {
        @JvmStatic
        fun create(filePath: String, options: Options, optionalEnv: Environment? = null): CompiledModel = stub()
    }
}
