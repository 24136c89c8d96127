package dev.firsttoken.core.benchmark

import com.google.gson.stream.JsonWriter
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.json.AtomicFile
import java.io.File
import java.io.StringWriter

/** Writes request files, for benchmarks that the app starts itself. */
object RequestText {
    /** Raises `IOException`. */
    fun write(request: Request, file: File) = AtomicFile.write(file, of(request))

    fun of(request: Request): String {
        val text = StringWriter()
        JsonWriter(text).apply {
            beginObject()
            name("protocol").value(Request.PROTOCOL)
            name("id").value(request.id)
            name("bundle").value(request.bundle)
            name("state").value(request.state)
            name("threads").value(request.threads)
            name("repeat").value(request.repeat)
            name("decode_tokens").value(request.decodeTokens)
            name("chat").value(request.chat)
            if (request.artifact != ArtifactChoice.AUTO) name("artifact").value(request.artifact.text)
            name("prompts").beginArray()
            for (prompt in request.prompts) beginObject().name("tokens").value(prompt.tokens).name("text").value(prompt.text).endObject()
            endArray()
            endObject()
        }
        return text.toString()
    }
}
