package dev.firsttoken.demo.measure

import dev.firsttoken.core.benchmark.PromptRequest
import dev.firsttoken.core.benchmark.Request
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.ExactPrompt
import java.util.UUID

/** Turns what was chosen into requests: one a bundle for warm runs, one a run for cold ones. */
class MeasureRequests(private val promptText: String) {
    /** Raises `FirstTokenException` for a length that the bundle's tokenizer cannot give. */
    fun of(bundle: Bundle, options: MeasureOptions): List<Request> {
        val chat = bundle.manifest.chat
        val exact = ExactPrompt(bundle.openTokenizer(), chat, promptText)
        val prompts = options.lengths.map { PromptRequest(it, exact.of(it)) }
        val key = bundle.folder.name
        fun request(repeat: Int, prompts: List<PromptRequest>) =
            Request(UUID.randomUUID().toString().replace("-", ""), key, options.isCold, options.threads, repeat, options.decodeTokens, chat != null, prompts)
        return if (options.isCold) List(options.repeat) { prompts.map { prompt -> request(1, listOf(prompt)) } }.flatten() else listOf(request(options.repeat, prompts))
    }
}
