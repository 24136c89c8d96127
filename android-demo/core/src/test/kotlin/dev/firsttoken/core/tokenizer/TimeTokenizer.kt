package dev.firsttoken.core.tokenizer

import java.io.File
import kotlin.system.exitProcess

private const val REPEATS = 5

/** Bytes of the heap that a loaded tokenizer keeps. */
private fun held(file: File): Long {
    fun used(): Long {
        repeat(3) { System.gc() }
        return Runtime.getRuntime().run { totalMemory() - freeMemory() }
    }
    val before = used()
    val tokenizer = Tokenizer.read(file)
    val after = used()
    check(tokenizer.vocabularySize > 0) // it lives until here
    return after - before
}

/**
 * Prints how long loading the first argument (a tokenizer.json) and encoding the second (a text file) take, the first time and the fastest, and
 * what the loaded tokenizer holds of the heap.
 */
fun main(arguments: Array<String>) {
    val (file, text) = arguments.map(::File)
    if (!file.isFile || !text.isFile) {
        println("error: $file or $text is not a file")
        exitProcess(2)
    }
    val content = text.readText()
    val lines = content.lineSequence().map { "$it\n" }.toList()
    val loads = ArrayList<Double>()
    val encodes = ArrayList<Double>()
    var tokens = 0
    var vocabulary = 0
    repeat(REPEATS) {
        val begun = System.nanoTime()
        val tokenizer = Tokenizer.read(file)
        val loaded = System.nanoTime()
        tokens = lines.sumOf { tokenizer.encode(it).size }
        loads += (loaded - begun) / 1e6
        encodes += (System.nanoTime() - loaded) / 1e6
        vocabulary = tokenizer.vocabularySize
    }
    println("load %.0f ms the first time, %.0f ms at best ($vocabulary tokens, ${file.length()} bytes)".format(loads.first(), loads.min()))
    println("holds %.1f MiB".format(held(file) / 1048576.0))
    println("encode %.1f ms the first time, %.1f ms at best (${content.length} characters, $tokens tokens)".format(encodes.first(), encodes.min()))
}
