package dev.firsttoken.core.benchmark

import com.google.gson.JsonParseException
import com.google.gson.JsonParser
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile

/** A line of a progress file; what its event has not is null. */
class ProgressEvent(
    val event: String,
    val pid: Int? = null,
    val total: Int? = null,
    val done: Int? = null,
    val phase: String? = null,
    val promptTokens: Int? = null,
    val state: String? = null,
    val firstToken: Long? = null,
    val stage: String? = null,
    val message: String? = null,
) {
    /** Whether nothing follows: the request has ended or was not carried out. */
    val isFinal: Boolean get() = event == "done" || event == "refused"
}

/** Follows a progress file as PROTOCOL.md asks: a last line without its end is not there yet, what is unknown is passed over. */
class ProgressReader(private val file: File) {
    private var read = 0L

    /** Returns the lines since the last call; none where the file cannot be read yet. */
    fun next(): List<ProgressEvent> {
        val bytes = try {
            RandomAccessFile(file, "r").use { stream ->
                if (stream.length() < read) read = 0 // taken off and started again
                val fresh = ByteArray(minOf(stream.length() - read, MOST).toInt())
                stream.seek(read)
                stream.readFully(fresh)
                fresh
            }
        } catch (error: IOException) { // not made yet, or just being taken off
            return emptyList()
        }
        val end = bytes.lastIndexOf('\n'.code.toByte()) + 1
        read += end
        return String(bytes, 0, end, Charsets.UTF_8).lineSequence().filter { it.isNotBlank() }.mapNotNull(::parsed).toList()
    }

    private fun parsed(line: String): ProgressEvent? =
        try {
            val values = JsonParser.parseString(line).asJsonObject
            fun text(name: String) = values.get(name)?.asString
            fun int(name: String) = values.get(name)?.asInt
            text("event")?.let {
                ProgressEvent(
                    it, int("pid"), int("total"), int("done"), text("phase"), int("prompt_tokens"), text("state"), values.get("first_token_ns")?.asLong, text("stage"), text("message"),
                )
            }
        } catch (error: JsonParseException) {
            null
        } catch (error: IllegalStateException) { // another kind of value than the protocol's
            null
        } catch (error: NumberFormatException) {
            null
        } catch (error: UnsupportedOperationException) {
            null
        }

    private companion object {
        const val MOST = 16L shl 20 // bytes, as PROTOCOL.md bounds the file
    }
}
