package dev.firsttoken.core.chat

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.tokenizer.Tokenizer

/** How a bundle is talked to: whether questions are turns of one conversation, and the tokens that ask the next one. */
class Dialogue(manifest: Manifest) {
    private val chat = manifest.chat
    private val pieces = chat?.conversation

    /** Why every question is answered by itself; null where the conversation goes on. */
    val alone: String? = when {
        chat == null -> "this bundle has no chat template: your text is continued as it is"
        pieces != null -> null
        chat.conversationRefused != null -> "this bundle's chat template cannot be written without Jinja (${chat.conversationRefused})"
        else -> "this bundle was exported before conversations were; export the checkpoint again"
    }

    val takesSystem: Boolean = pieces?.takesSystem == true

    val beginsInThought: Boolean = pieces?.beginsInThought ?: (chat?.suffix?.text?.trimEnd()?.endsWith(Thinking.BEGIN) == true)

    /**
     * Returns the tokens that ask for the answer to [question], after [earlier] turns where the conversation goes on.
     *
     * Raises [FirstTokenException] for a [system] message that the bundle does not take, and a conversation longer than [cacheLength] tokens.
     */
    fun encode(tokenizer: Tokenizer, system: String?, earlier: List<Turn>, question: String, cacheLength: Int): IntArray {
        if (system != null && !takesSystem) throw FirstTokenException("a system prompt cannot be given: ${alone ?: "this bundle's chat template takes none"}; empty it in the settings")
        if (pieces == null) return encodePrompt(tokenizer, question, chat)
        val text = pieces.write(system, earlier.map { it.question } + question, earlier.map { it.text })
        val tokens = tokenizer.encode(text, withBegin = false)
        if (earlier.isNotEmpty() && tokens.size > cacheLength) {
            throw FirstTokenException("the conversation is ${tokens.size} tokens long, which do not fit the cache of $cacheLength; start a new chat, or export with a longer --cache-length")
        }
        return tokens
    }
}
