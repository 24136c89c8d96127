package dev.firsttoken.demo.engine

import com.qualcomm.qti.QnnDelegate
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.npu.NpuCall
import dev.firsttoken.core.npu.NpuProgram
import java.io.File
import java.nio.FloatBuffer
import java.nio.IntBuffer
import org.tensorflow.lite.Interpreter

/**
 * Runs graphs that the phone compiles when it loads them, with Qualcomm's delegate for `Interpreter`. What it compiled is kept in
 * [cache] by [key], the artifact's hash; [libraries] is the folder of its libraries.
 *
 * The delegate does not tell what it left to the CPU.
 */
class QnnDelegateProgram(artifact: File, key: String, methods: List<Method>, libraries: File, cache: File) : NpuProgram {
    private val outputs = methods.associate { method -> method.name to method.outputs.associate { it.name to it.shape.fold(1) { size, dimension -> size * dimension.toInt() } } }
    private val delegate = QnnDelegate(options(libraries, cache, key))
    private val interpreter = try {
        Interpreter(artifact, Interpreter.Options().addDelegate(delegate))
    } catch (error: Throwable) {
        delegate.close()
        throw error
    }

    override fun run(call: NpuCall): Map<String, FloatArray> {
        val inputs = call.floats.mapValues<String, FloatArray, Any> { FloatBuffer.wrap(it.value) } + call.ints.mapValues { IntBuffer.wrap(it.value) }
        val results = outputs.getValue(call.method).mapValues { FloatBuffer.allocate(it.value) }
        interpreter.runSignature(inputs, results.toMap<String, Any>(), call.method)
        return results.mapValues { it.value.array() }
    }

    override fun close() {
        interpreter.close()
        delegate.close()
    }

    private fun options(libraries: File, cache: File, key: String): QnnDelegate.Options {
        if (!QnnDelegate.checkCapability(QnnDelegate.Capability.HTP_RUNTIME_FP16)) throw FirstTokenException("Qualcomm's delegate says that this phone's NPU does not compute in FP16")
        return QnnDelegate.Options().apply {
            setBackendType(QnnDelegate.Options.BackendType.HTP_BACKEND)
            setHtpPrecision(QnnDelegate.Options.HtpPrecision.HTP_PRECISION_FP16)
            setHtpPerformanceMode(QnnDelegate.Options.HtpPerformanceMode.HTP_PERFORMANCE_BURST)
            setSkelLibraryDir(libraries.path)
            setCacheDir(cache.path)
            setModelToken(key)
        }
    }
}
