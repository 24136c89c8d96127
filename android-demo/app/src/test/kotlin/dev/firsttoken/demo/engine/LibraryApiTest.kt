package dev.firsttoken.demo.engine

import java.io.File
import java.lang.reflect.Modifier
import org.junit.Assert.assertTrue
import org.junit.Test

/** The runtimes' own classes cannot be run on a JVM, but what the app calls of TensorFlow Lite must be in the AAR that it carries. */
class LibraryApiTest {
    @Test fun tensorFlowLiteHasWhatTheAppCalls() {
        val loader = javaClass.classLoader
        val interpreter = Class.forName("org.tensorflow.lite.Interpreter", false, loader)
        val options = Class.forName("org.tensorflow.lite.Interpreter\$Options", false, loader)
        interpreter.getConstructor(File::class.java, options)
        assertTrue(Modifier.isPublic(interpreter.getMethod("runSignature", Map::class.java, Map::class.java, String::class.java).modifiers))
        options.getMethod("setNumThreads", Int::class.java)
        options.getMethod("setUseXNNPACK", Boolean::class.java)
    }

    @Test fun tensorFlowLiteHasTheNativeFunctionsForFloat16() = assertTrue(InterpreterNatives.areThere())
}
