package dev.firsttoken.core.benchmark

import com.google.gson.JsonObject
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import java.io.File

/** A prompt and the number of tokens it must give. */
class PromptRequest(val tokens: Int, val text: String)

/** What the benchmark is asked to do, as PROTOCOL.md says. */
class Request(
    val id: String,
    val bundle: String,
    val cold: Boolean,
    val threads: Int,
    val repeat: Int,
    val decodeTokens: Int,
    val chat: Boolean,
    val prompts: List<PromptRequest>,
    val artifact: ArtifactChoice = ArtifactChoice.AUTO,
) {
    /** How runs are marked: "cold" or "warm". */
    val state: String get() = if (cold) "cold" else "warm"

    companion object {
        const val PROTOCOL = 1
        const val LARGEST = 1L shl 20 // bytes
        private val KEY = Regex("[0-9a-f]{32}")

        /** Whether [text] may name a request or a bundle, and so be part of a path. */
        fun isKey(text: String): Boolean = KEY.matches(text)

        /** Reads the request file of [id]. Raises [FirstTokenException] for one that is malformed, out of bounds or another's. */
        fun read(file: File, id: String): Request = parse(JsonText.readObject(file, LARGEST, "a benchmark request"), id)

        fun parse(values: JsonObject, id: String): Request {
            val version = values.get("protocol")
            if (version == null || version.toString() != "$PROTOCOL") {
                throw FirstTokenException("request: protocol is ${JsonText.describe(version)}; this app speaks $PROTOCOL, install the app that comes with your firsttoken")
            }
            return JsonFields.read("request", values) {
                int("protocol")
                if (key("id") != id) refuse("id", "'${text("id")}'", "'$id', as its file is named")
                val cold = choice("state", "warm", "cold") == "cold"
                Request(
                    id = id,
                    bundle = key("bundle"),
                    cold = cold,
                    threads = int("threads", 1..16),
                    repeat = int("repeat", if (cold) 1..1 else 1..1000),
                    decodeTokens = int("decode_tokens", 0..4096),
                    chat = boolean("chat"),
                    prompts = objects("prompts", if (cold) 1..1 else 1..32) { PromptRequest(int("tokens", 1..(1 shl 20)), text("text")) }
                        .also { prompts -> if (prompts.distinctBy { it.tokens }.size != prompts.size) refuse("prompts", "a list with one length twice", "each length once") },
                    artifact = if (has("artifact")) ArtifactChoice.of(choice("artifact", *ArtifactChoice.TEXTS)) else ArtifactChoice.AUTO,
                )
            }
        }

        private fun JsonFields.key(name: String): String = text(name).also { if (!isKey(it)) refuse(name, "'${it.take(40)}'", "32 hexadecimal digits") }
    }
}
