package dev.firsttoken.core.tokenizer

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import java.io.File

internal const val TOKENIZER_FILE = "tokenizer.json"

/**
 * What `tokenizer.json` says, read in one pass: vocabulary and merges, by far the largest part, never become a tree of objects.
 *
 * [settings] are the model's other fields and [parts] the file's other objects.
 */
internal class TokenizerFile private constructor(file: File) {
    val vocabulary = Vocabulary()
    val merges = MergeTable()
    val added = ArrayList<AddedToken>()
    val settings = JsonObject()
    val parts = JsonObject()
    private val early = ArrayList<Pair<String, String>>() // merges that stand before the vocabulary
    private var haveVocabulary = false
    private var rank = 0
    private var lastProduct = -1

    init {
        JsonText.read(file, LARGEST, "a Hugging Face tokenizer file") { reader ->
            reader.beginObject()
            while (reader.hasNext()) {
                when (val name = reader.nextName()) {
                    "model" -> model(reader)
                    "added_tokens" -> addedTokens(reader)
                    else -> parts.add(name, JsonParser.parseReader(reader))
                }
            }
            reader.endObject()
        }
        if (!haveVocabulary) throw FirstTokenException("$TOKENIZER_FILE: has no vocabulary; expected a model of type BPE")
        early.forEach { (left, right) -> merge(left, right) }
        added.forEach(::complete)
    }

    fun part(name: String): JsonObject? =
        when (val found: JsonElement? = parts.get(name)) {
            null -> null
            is JsonObject -> found
            else -> if (found.isJsonNull) null else throw FirstTokenException("$TOKENIZER_FILE: $name is ${JsonText.describe(found)}; expected an object")
        }

    private fun model(reader: JsonReader) {
        reader.beginObject()
        while (reader.hasNext()) {
            when (val name = reader.nextName()) {
                "vocab" -> vocabulary(reader)
                "merges" -> merges(reader)
                else -> settings.add(name, JsonParser.parseReader(reader))
            }
        }
        reader.endObject()
    }

    private fun vocabulary(reader: JsonReader) {
        if (reader.peek() != JsonToken.BEGIN_OBJECT) {
            val type = settings.get("type")?.takeIf { it.isJsonPrimitive }?.asString
            throw FirstTokenException("$TOKENIZER_FILE: model '$type' is not supported by this app; expected BPE")
        }
        reader.beginObject()
        while (reader.hasNext()) vocabulary.add(reader.nextName(), reader.nextInt())
        reader.endObject()
        haveVocabulary = true
    }

    /** Merges are lists of two texts, or in older files one text with a space between. */
    private fun merges(reader: JsonReader) {
        reader.beginArray()
        while (reader.hasNext()) {
            val left: String
            val right: String
            if (reader.peek() == JsonToken.BEGIN_ARRAY) {
                reader.beginArray()
                left = reader.nextString()
                right = reader.nextString()
                reader.endArray()
            } else {
                val both = reader.nextString()
                val space = both.indexOf(' ')
                if (space <= 0 || space != both.lastIndexOf(' ') || space == both.length - 1) damagedMerge("'$both'")
                left = both.substring(0, space)
                right = both.substring(space + 1)
            }
            if (haveVocabulary) merge(left, right) else early += left to right
        }
        reader.endArray()
    }

    private fun merge(left: String, right: String) {
        val from = vocabulary.id(left)
        val to = vocabulary.id(right)
        // families number the products of their merges in order, so the next one is nearly always found without a search
        val product = if (vocabulary.isJoined(lastProduct + 1, left, right)) lastProduct + 1 else vocabulary.id(left + right)
        if (from < 0 || to < 0 || product < 0) damagedMerge("'$left' and '$right'")
        merges.add(from, to, rank++, product)
        lastProduct = product
    }

    private fun damagedMerge(what: String): Nothing =
        throw FirstTokenException("$TOKENIZER_FILE: the merge of $what is not one of two tokens into a third; the file is damaged, copy it again")

    private fun addedTokens(reader: JsonReader) {
        val list = JsonParser.parseReader(reader).takeIf { it.isJsonArray } ?: throw FirstTokenException("$TOKENIZER_FILE: added_tokens is not a list; the file is damaged, copy it again")
        list.asJsonArray.forEachIndexed { place, item ->
            val values = item as? JsonObject ?: throw FirstTokenException("$TOKENIZER_FILE: added_tokens[$place] is ${JsonText.describe(item)}; expected an object")
            added += JsonFields.read(TOKENIZER_FILE, values, "added_tokens[$place]") {
                AddedToken(
                    id = int("id", 0 until Vocabulary.MOST),
                    content = text("content"),
                    special = boolean("special"),
                    normalized = boolean("normalized"),
                    singleWord = boolean("single_word"),
                    stripLeft = boolean("lstrip"),
                    stripRight = boolean("rstrip"),
                )
            }
        }
    }

    /** Added tokens are part of the vocabulary in some files and not in others. */
    private fun complete(token: AddedToken) {
        val id = vocabulary.id(token.content)
        if (id < 0) vocabulary.add(token.content, token.id)
        if (id >= 0 && id != token.id) throw FirstTokenException("$TOKENIZER_FILE: token '${token.content}' has ids $id and ${token.id}; the file is damaged, copy it again")
    }

    companion object {
        private const val LARGEST = 256L shl 20 // bytes; the largest in use is under 40 MB

        fun read(file: File) = TokenizerFile(file)
    }
}
