package dev.firsttoken.core.generate

import dev.firsttoken.core.bundle.Manifest

/** Predicts a fixed list of tokens, one a call, then the last one for ever. */
class ScriptedEngine(manifest: Manifest, private val script: List<Int>, override val cacheLength: Int = manifest.target.cacheLength) : Engine(manifest) {
    val prompts = ArrayList<List<Int>>()
    val decoded = ArrayList<Int>()
    var closed = false
        private set
    private var calls = 0

    override fun prefillChunk(tokens: IntArray): FloatArray = next().also { prompts += tokens.toList() }

    override fun decodeToken(token: Int): FloatArray = next().also { decoded += token }

    override fun close() {
        closed = true
    }

    private fun next() = FloatArray(vocabularySize).also { it[script[minOf(calls++, script.size - 1)]] = 9f }
}
