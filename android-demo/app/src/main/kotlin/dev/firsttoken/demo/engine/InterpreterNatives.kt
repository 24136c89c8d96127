package dev.firsttoken.demo.engine

import java.lang.reflect.InvocationTargetException
import java.lang.reflect.Method
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

/**
 * The native functions beneath `Interpreter`'s public methods, which take any tensor as bytes: the public ones refuse float16.
 *
 * They are not meant for apps. They are the same in TensorFlow Lite 2.16 and LiteRT 2.2; [areThere] says whether a build has them, and
 * where it has not, what needs them is refused.
 */
internal class InterpreterNatives(interpreter: Interpreter) {
    private val interpreterHandle: Long
    private val errorHandle: Long

    init {
        val wrapper = checkNotNull(WRAPPER.get(interpreter)) { "the interpreter is closed" }
        interpreterHandle = INTERPRETER_HANDLE.getLong(wrapper)
        errorHandle = ERROR_HANDLE.getLong(wrapper)
    }

    /** A handle of [signature]; it lives as long as the interpreter. */
    fun runner(signature: String): Long {
        val runner = call(GET_RUNNER, interpreterHandle, signature) as Long
        return runner.also { require(it != -1L) { "the artifact has no signature '$signature'" } }
    }

    fun resize(runner: Long, input: String, shape: IntArray) {
        call(RESIZE, runner, errorHandle, input, shape)
    }

    fun allocate(runner: Long) {
        call(ALLOCATE, runner, errorHandle)
    }

    fun invoke(runner: Long) {
        call(INVOKE, runner, errorHandle)
    }

    /** An input's memory, the interpreter's own, which may be elsewhere after the next [allocate]. */
    fun input(runner: Long, name: String): ByteBuffer = memory(call(INPUT, runner, name) as Long)

    /** An output's memory, which may be elsewhere after the next [invoke]. */
    fun output(runner: Long, name: String): ByteBuffer = memory(call(OUTPUT, runner, name) as Long)

    private fun memory(tensor: Long): ByteBuffer {
        try {
            return (call(BUFFER, tensor) as ByteBuffer).order(ByteOrder.nativeOrder())
        } finally {
            call(DELETE, tensor)
        }
    }

    private fun call(method: Method, vararg arguments: Any): Any? =
        try {
            method.invoke(null, *arguments)
        } catch (error: InvocationTargetException) {
            throw error.targetException // what the native function raised
        }

    companion object {
        private val LONG = Long::class.java
        private val WRAPPER by lazy { field("InterpreterImpl", "wrapper") }
        private val INTERPRETER_HANDLE by lazy { field("NativeInterpreterWrapper", "interpreterHandle") }
        private val ERROR_HANDLE by lazy { field("NativeInterpreterWrapper", "errorHandle") }
        private val GET_RUNNER by lazy { method("NativeSignatureRunnerWrapper", "nativeGetSignatureRunner", LONG, String::class.java) }
        private val RESIZE by lazy { method("NativeSignatureRunnerWrapper", "nativeResizeInput", LONG, LONG, String::class.java, IntArray::class.java) }
        private val ALLOCATE by lazy { method("NativeSignatureRunnerWrapper", "nativeAllocateTensors", LONG, LONG) }
        private val INVOKE by lazy { method("NativeSignatureRunnerWrapper", "nativeInvoke", LONG, LONG) }
        private val INPUT by lazy { method("TensorImpl", "createSignatureInputTensor", LONG, String::class.java) }
        private val OUTPUT by lazy { method("TensorImpl", "createSignatureOutputTensor", LONG, String::class.java) }
        private val BUFFER by lazy { method("TensorImpl", "buffer", LONG) }
        private val DELETE by lazy { method("TensorImpl", "delete", LONG) }

        /** Whether this build's library has all of them; nothing native is loaded for that. */
        fun areThere(): Boolean =
            try {
                listOf(WRAPPER, INTERPRETER_HANDLE, ERROR_HANDLE, GET_RUNNER, RESIZE, ALLOCATE, INVOKE, INPUT, OUTPUT, BUFFER, DELETE).isNotEmpty()
            } catch (missing: ReflectiveOperationException) {
                false
            }

        private fun type(name: String) = Class.forName("org.tensorflow.lite.$name", false, InterpreterNatives::class.java.classLoader)

        private fun field(type: String, name: String) = type(type).getDeclaredField(name).apply { isAccessible = true }

        private fun method(type: String, name: String, vararg parameters: Class<*>) = type(type).getDeclaredMethod(name, *parameters).apply { isAccessible = true }
    }
}
