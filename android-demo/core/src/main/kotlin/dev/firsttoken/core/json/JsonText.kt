package dev.firsttoken.core.json

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonParser
import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import com.google.gson.stream.MalformedJsonException
import dev.firsttoken.core.FirstTokenException
import java.io.EOFException
import java.io.File
import java.io.IOException
import java.io.InputStreamReader
import java.io.Reader
import java.io.StringReader
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

private const val BUFFER = 1 shl 16

/** Reads JSON files: strict, UTF-8 only, of bounded size. Every error is a [FirstTokenException] naming the file. */
object JsonText {
    /** Returns the object that [file] holds. [expected] says what it should have been, for the message. */
    fun readObject(file: File, largest: Long, expected: String): JsonObject =
        read(file, largest, expected) { reader ->
            val value = parseTree(reader)
            if (!value.isJsonObject) throw FirstTokenException("${file.name}: holds ${describe(value)}; expected $expected")
            value.asJsonObject
        }

    /** Returns the object in [text]; [source] names it in messages. */
    fun parseObject(text: String, source: String): JsonObject =
        guarded(source, "a JSON object") {
            val reader = strictReader(StringReader(text))
            val value = parseTree(reader)
            checkEnd(reader)
            value as? JsonObject ?: throw FirstTokenException("$source: holds ${describe(value)}; expected a JSON object")
        }

    /** Lets [block] read a whole file token by token, for files too large for a tree. */
    fun <T> read(file: File, largest: Long, expected: String, block: (JsonReader) -> T): T {
        if (!file.isFile) throw FirstTokenException("${file.name}: missing; expected $expected")
        if (file.length() > largest) throw FirstTokenException("${file.name}: ${file.length()} bytes; expected $expected of at most $largest")
        return guarded(file.name, expected) {
            val decoder = Charsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT).onUnmappableCharacter(CodingErrorAction.REPORT)
            InputStreamReader(file.inputStream().buffered(BUFFER), decoder).use { text ->
                val reader = strictReader(text)
                block(reader).also { checkEnd(reader) }
            }
        }
    }

    /** Says in a few words what a JSON value is. */
    fun describe(value: JsonElement?): String =
        when {
            value == null -> "nothing"
            value.isJsonNull -> "null"
            value.isJsonObject -> "an object"
            value.isJsonArray -> "a list"
            else -> value.toString().let { if (it.length <= 40) it else it.take(40) + "…" }
        }

    private fun strictReader(text: Reader) = JsonReader(text).apply { strictness = Strictness.STRICT }

    private fun parseTree(reader: JsonReader): JsonElement {
        reader.peek() // an empty file ends too early; the parser alone would call it null
        return JsonParser.parseReader(reader)
    }

    private fun checkEnd(reader: JsonReader) {
        if (reader.peek() != JsonToken.END_DOCUMENT) throw MalformedJsonException("something follows the value at ${reader.path}")
    }

    private fun <T> guarded(source: String, expected: String, block: () -> T): T =
        try {
            block()
        } catch (error: IOException) {
            throw explained(source, expected, error)
        } catch (error: JsonParseException) { // the parser of trees wraps what it meets
            throw explained(source, expected, error.cause ?: error)
        } catch (error: IllegalStateException) { // a value of another type than the one asked for
            throw explained(source, expected, error)
        } catch (error: NumberFormatException) {
            throw explained(source, expected, error)
        }

    private fun explained(source: String, expected: String, error: Throwable): FirstTokenException {
        // Gson's messages end with the line of a link to its help page
        val reason = error.message?.lineSequence()?.first()
        val what = when (error) {
            is CharacterCodingException -> "not valid UTF-8"
            is EOFException -> "ends too early"
            is MalformedJsonException -> "not valid JSON ($reason)"
            is IOException -> "cannot be read ($reason)"
            else -> "not valid JSON ($reason)"
        }
        return FirstTokenException("$source: $what; expected $expected, copy it again")
    }
}
