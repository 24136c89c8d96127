package dev.firsttoken.demo.natives

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.demo.engine.InterpreterNatives
import dev.firsttoken.demo.engine.InterpreterProgram
import dev.firsttoken.demo.engine.NativeRunner
import dev.firsttoken.demo.engine.RunnerProgram
import dev.firsttoken.demo.engine.TensorShape
import dev.firsttoken.demo.engine.TfliteBuild
import dev.firsttoken.demo.engine.TfliteEngine
import dev.firsttoken.demo.engine.TfliteProgram
import java.io.File

/** A program that counts the time that the runtime itself computes. */
private class Timed(private val program: TfliteProgram) : TfliteProgram by program {
    var inside = 0L

    override val keepsOlder get() = program.keepsOlder

    override fun reserve(signature: String, inputs: Map<String, TensorShape>) = program.reserve(signature, inputs)

    override fun invoke(signature: String) {
        val start = System.nanoTime()
        program.invoke(signature)
        inside += System.nanoTime() - start
    }
}

/**
 * Times one start as the app makes it: loading, the first prompt of `tokens`, and further rounds of it with `decode` tokens after each; all in nanoseconds. `outside` is what of the decoding
 * was not spent in the runtime.
 */
fun timing(job: JsonObject) {
    val bundle = Bundle.open(File(job["bundle"].asString))
    val (threads, decode) = job["threads"].asInt to job["decode"].asInt
    val tokens = job["tokens"].asJsonArray.map { it.asInt }.toIntArray()
    val start = System.nanoTime()
    val program = Timed(opened(job, bundle, threads))
    val engine = TfliteEngine(bundle.manifest, program)
    val loaded = System.nanoTime()
    val rounds = JsonArray()
    repeat(job["rounds"].asInt) {
        engine.reset()
        val begun = System.nanoTime()
        engine.prefill(tokens)
        val first = System.nanoTime()
        engine.decode(tokens[0]) // makes room
        val (inside, from) = program.inside to System.nanoTime()
        for (place in 1..decode) engine.decode(tokens[place])
        val spent = System.nanoTime() - from
        rounds.add(JsonObject().apply {
            addProperty("first", first - begun)
            addProperty("decode", spent / decode)
            addProperty("outside", (spent - (program.inside - inside)) / decode)
        })
    }
    engine.close()
    File(job["into"].asString).writeText(JsonObject().apply { addProperty("load", loaded - start); add("rounds", rounds) }.toString())
}

private fun opened(job: JsonObject, bundle: Bundle, threads: Int): TfliteProgram {
    val native = job["native"]?.asJsonObject
    if (native == null) return if (InterpreterNatives.areThere()) RunnerProgram(bundle.artifact(), threads) else InterpreterProgram(bundle.artifact(), threads)
    val runner = NativeRunner.of(TfliteBuild(isLiteRt = true, native["version"].asString), File(native["cache"].asString), native["library"].asString)
    check(runner.lack == null) { runner.lack.orEmpty() }
    runner.checkArtifact(bundle)
    return runner.open(bundle, threads, runner.shipped?.choose(bundle)?.file)
}
