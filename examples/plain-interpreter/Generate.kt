// Generates text with the public Interpreter API: nothing of firsttoken's but the file of `firsttoken export -t tflite-interpreter`.
// Needs org.tensorflow:tensorflow-lite (or com.google.ai.edge.litert:litert) and ai.djl.huggingface:tokenizers.
//     Generate <folder of the bundle> "def read_lines(path):" 40
import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer
import org.tensorflow.lite.Interpreter
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

fun main(args: Array<String>) {
    val tokenizer = HuggingFaceTokenizer.newInstance(File(args[0], "tokenizer.json").toPath())
    val interpreter = Interpreter(File(args[0], "model.tflite"), Interpreter.Options().setNumThreads(4))
    fun shape(signature: String, input: String) = interpreter.getInputTensorFromSignature(input, signature).shape()
    fun buffer(bytes: Int) = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
    val lengths = interpreter.signatureKeys.associateWith { shape(it, "tokens")[1] }
    val rows = shape("decode", "mask")[3]
    val logits = buffer(interpreter.getOutputTensorFromSignature("logits", "decode").numBytes())
    val cache = interpreter.getSignatureInputs("decode").filter { it.startsWith("kv_cache") }
        .associateWith { buffer(interpreter.getInputTensorFromSignature(it, "decode").numBytes()) }

    // The first of the tokens stands at the position; what a call returns as cache is the next one's.
    fun run(tokens: List<Int>, position: Int, name: String) {
        val length = lengths.getValue(name)
        val ids = buffer(4 * length).apply { for (n in 0 until length) putInt(tokens.getOrElse(n) { 0 }) }
        val at = buffer(4 * length).apply { for (n in 0 until length) putInt(position + n) }
        val mask = buffer(4 * length * rows).apply {
            for (n in 0 until length) for (row in 0 until rows) putFloat(if (row <= position + n) 0f else -1e9f)
        }
        val outputs = cache + if (name == "decode") mapOf("logits" to logits) else emptyMap()
        (outputs.values + listOf(ids, at, mask)).forEach { it.rewind() }
        interpreter.runSignature(cache + mapOf("tokens" to ids, "input_pos" to at, "mask" to mask), outputs, name)
    }

    val tokens = tokenizer.encode(args[1]).ids.map { it.toInt() }.toMutableList()
    var position = 0
    while (position < tokens.size - 1) {
        val left = tokens.size - 1 - position
        val graphs = (lengths - "decode").entries.sortedBy { it.value }
        val (name, length) = graphs.firstOrNull { it.value >= left } ?: graphs.last()
        run(tokens.subList(position, position + minOf(left, length)).toList(), position, name)
        position += minOf(left, length)
    }
    repeat(args[2].toInt()) {
        run(listOf(tokens.last()), position++, "decode")
        val scores = FloatArray(logits.rewind().remaining() / 4).also { logits.asFloatBuffer().get(it) }
        tokens += scores.indices.maxBy { scores[it] }
    }
    println(tokenizer.decode(tokens.map { it.toLong() }.toLongArray(), true)) // without special tokens
}
