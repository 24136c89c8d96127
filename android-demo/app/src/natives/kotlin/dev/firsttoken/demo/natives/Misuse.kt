package dev.firsttoken.demo.natives

import com.google.gson.JsonObject
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.demo.engine.Element
import dev.firsttoken.demo.engine.NativeFunctions
import dev.firsttoken.demo.engine.NativeProgram
import dev.firsttoken.demo.engine.TensorShape
import java.io.File

/** What the native library says to what it must not be given: one line of JSON each, `what` and `error`; this process must outlive them all. */
fun misuse(job: JsonObject) {
    val library = job["native"].asJsonObject["library"].asString
    val model = File(job["model"].asString)
    System.loadLibrary("firsttoken_litert")
    File(job["into"].asString).bufferedWriter().use { lines ->
        fun attempt(what: String, call: () -> Unit) {
            val error = try {
                call()
                null
            } catch (error: Throwable) {
                failureMessage(error)
            }
            lines.write("${JsonObject().apply { addProperty("what", what); addProperty("error", error) }}\n")
            lines.flush() // what a crash leaves tells how far it came
        }
        for (damaged in job["damaged"].asJsonArray) attempt("open ${File(damaged.asString).name}") { NativeProgram(File(damaged.asString), 1, null, library).close() }
        attempt("no library") { NativeFunctions.find("libNoLiteRt.so".toByteArray()) }
        attempt("another library") { NativeFunctions.find("libm.so.6".toByteArray()) }
        for (damaged in job["damaged"].asJsonArray) attempt("kernels of ${File(damaged.asString).name}") {
            check(!NativeFunctions.takes(library.toByteArray(), damaged.asString.toByteArray(), model.parent.toByteArray()))
        }
        attempt("packed weights that are not there") { NativeProgram(model, 1, File("/nowhere"), library, isOnlyRead = true).close() }
        attempt("a number that is no program") { NativeFunctions.run(12345, 0) }
        val program = NativeFunctions.open(library.toByteArray(), model.path.toByteArray(), 1, ByteArray(0), false)
        attempt("a signature that is none") { NativeFunctions.run(program, 99) }
        attempt("a signature below none") { NativeFunctions.inputs(program, -1) }
        attempt("run before shapes") { NativeFunctions.run(program, 0) }
        val shapes = job["shapes"].asJsonObject.entrySet().associate { (name, sizes) -> name to sizes.asJsonArray.map { it.asInt }.toIntArray() }
        val number = NativeFunctions.signatures(program).indexOf("first")
        val (inputs, outputs) = NativeFunctions.inputs(program, number).map(shapes::getValue) to NativeFunctions.outputs(program, number).map(shapes::getValue)
        fun prepared(into: List<IntArray>, out: List<IntArray>) = NativeFunctions.prepare(program, number, into.toTypedArray(), out.toTypedArray())
        attempt("shapes that were not reserved") { prepared(inputs, outputs) }
        val largest = inputs.map { sizes -> IntArray(sizes.size) { if (sizes[it] == job["tokens"].asInt) 4 * sizes[it] else sizes[it] } }
        attempt("what is right to reserve") { NativeFunctions.reserve(program, number, largest.toTypedArray()) }
        attempt("one input too few") { prepared(inputs.drop(1), outputs) }
        attempt("one output too few") { prepared(inputs, outputs.drop(1)) }
        attempt("no dimensions left") { prepared(inputs.map { IntArray(it.size) }, outputs) }
        attempt("negative dimensions") { prepared(inputs.map { sizes -> IntArray(sizes.size) { -1 } }, outputs) }
        attempt("nine dimensions") { prepared(inputs.map { IntArray(9) { 1 } }, outputs) }
        attempt("more than 2 GiB") { prepared(inputs.map { sizes -> IntArray(sizes.size) { 1 shl 30 } }, outputs) }
        attempt("another rank") { prepared(inputs.map { it + 3 }, outputs) }
        attempt("more than was reserved") { prepared(largest.map { sizes -> IntArray(sizes.size) { sizes[it] + 1 } }, outputs) }
        attempt("run after shapes that were refused") { NativeFunctions.run(program, number) }
        attempt("outputs that are too small") { prepared(inputs, outputs.map { sizes -> IntArray(sizes.size) { 1 } }); NativeFunctions.run(program, number) }
        attempt("what is right after all that") { prepared(inputs, outputs); NativeFunctions.run(program, number) }
        NativeFunctions.close(program)
        attempt("run after close") { NativeFunctions.run(program, number) }
        attempt("close twice") { NativeFunctions.close(program) }
        attempt("a program's tensor after close") {
            val closed = NativeProgram(model, 1, null, library)
            closed.close()
            closed.prepare("first", shapes.mapValues { TensorShape(Element.FLOAT32, it.value) }, shapes.mapValues { TensorShape(Element.FLOAT32, it.value) })
        }
    }
}
