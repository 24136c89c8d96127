package dev.firsttoken.core.chat

import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.tokenizer.Tokenizer

/** Special tokens that begin or end a tool call, by their names: nothing here calls tools, so the call is shown as the text that it is. */
object ToolTokens {
    private val NAMES = Regex("tool|python_tag|function", RegexOption.IGNORE_CASE)

    /** Those of [tokenizer], but for tokens that end an answer. */
    fun of(tokenizer: Tokenizer, manifest: Manifest): Set<Int> {
        val end = manifest.tokenizer.end.toSet()
        return tokenizer.special.filter { (name, token) -> NAMES.containsMatchIn(name) && token !in end }.values.toSet()
    }
}
