package dev.firsttoken.core.tokenizer

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import dev.firsttoken.core.FirstTokenException
import java.io.File

/**
 * Text to tokens and back, through a bundle's own `tokenizer.json`: the same tokens as Hugging Face tokenizers gives.
 *
 * [begin] is written before every prompt where the manifest says so. Not for several threads at once.
 */
class Tokenizer private constructor(file: TokenizerFile, val begin: Int?, named: Map<String, Int>?) {
    private val vocabulary = file.vocabulary
    private val normalizer = TokenizerParts.normalizer(file.part("normalizer"))
    private val splitting = TokenizerParts.splitting(file.part("pre_tokenizer"))
    private val decoder = TokenizerParts.decoder(file.part("decoder"))
    private val encoder = ModelSettings.read(file.settings).let {
        val unknown = it.unknown?.let { text -> Unknown(vocabulary.id(text).also { id -> checkUnknown(text, id) }, it.fuseUnknown) }
        BytePairEncoder(vocabulary, file.merges, splitting.byteLevel, it.byteFallback, it.ignoreMerges, unknown)
    }
    private val inRawText: AddedTokens
    private val inNormalizedText: AddedTokens

    init {
        val (later, first) = file.added.partition { it.normalized }
        inRawText = AddedTokens(first)
        inNormalizedText = AddedTokens(later, later.map { normalizer?.normalize(it.content) ?: it.content })
    }

    /** The highest token id plus one, special tokens included. */
    val vocabularySize = vocabulary.size

    /** Special tokens by their text. */
    val special: Map<String, Int> = named?.onEach(::checkSpecial) ?: file.added.filter { it.special }.associate { it.content to it.id }
    private val silent = special.values.toHashSet()

    /** Returns the tokens of [text], after [begin] unless [withBegin] is false. */
    fun encode(text: String, withBegin: Boolean = true): IntArray {
        val tokens = IntList(text.length / 2 + 4)
        if (withBegin && begin != null) tokens.add(begin)
        for (part in inRawText.split(Utf8.withoutLoneSurrogates(text), atStart = true)) {
            if (part.id >= 0) tokens.add(part.id) else encodeNormalized(part, tokens)
        }
        return tokens.toArray()
    }

    private fun encodeNormalized(part: Segment, tokens: IntList) {
        for (piece in inNormalizedText.split(normalizer?.normalize(part.text) ?: part.text, part.atStart)) {
            if (piece.id >= 0) {
                tokens.add(piece.id)
            } else {
                val words = splitting.preTokenizer?.split(piece.text, piece.atStart) ?: listOf(piece.text)
                for (word in words) encoder.encode(word, tokens)
            }
        }
    }

    /** Returns the text of [tokens]; special tokens are left out unless [withSpecial]. Tokens that do not exist are left out. */
    fun decode(tokens: IntArray, withSpecial: Boolean = false): String {
        val texts = tokens.filter { withSpecial || it !in silent }.mapNotNull(vocabulary::text)
        return decoder.fold(texts) { made, step -> step.decode(made) }.joinToString("")
    }

    fun isSpecial(token: Int): Boolean = token in silent

    private fun checkSpecial(named: Map.Entry<String, Int>) {
        val id = vocabulary.id(named.key)
        if (id == named.value) return
        val found = if (id < 0) "no such token" else "it as token $id"
        throw FirstTokenException("the manifest has special token '${named.key}' as ${named.value}, but $TOKENIZER_FILE has $found; the bundle is damaged, export it again")
    }

    companion object {
        /**
         * Reads [file]. [special] are a manifest's special tokens by their text; without it, those that the file marks so.
         *
         * Raises [FirstTokenException] for a damaged file, naming what is wrong, or a tokenizer of another kind, naming it.
         */
        fun read(file: File, begin: Int? = null, special: Map<String, Int>? = null): Tokenizer =
            Tokenizer(TokenizerFile.read(file), begin, special).also {
                if (begin != null && begin !in 0 until it.vocabularySize)
                    throw FirstTokenException("begin token $begin is outside the tokenizer's ${it.vocabularySize}; the bundle is damaged, export it again")
            }

        private fun checkUnknown(text: String, id: Int) {
            if (id < 0) throw FirstTokenException("$TOKENIZER_FILE: unk_token '$text' is no token; the file is damaged, copy it again")
        }
    }
}

/** The settings of the BPE model that change its tokens. */
private class ModelSettings(val byteFallback: Boolean, val ignoreMerges: Boolean, val unknown: String?, val fuseUnknown: Boolean) {
    companion object {
        fun read(values: JsonObject): ModelSettings {
            val type = values.get("type")
            if (type != null && text(type) != "BPE") throw FirstTokenException("$TOKENIZER_FILE: model '${text(type)}' is not supported by this app; expected BPE")
            for (name in listOf("continuing_subword_prefix", "end_of_word_suffix")) {
                val found = text(values.get(name))
                if (!found.isNullOrEmpty()) throw FirstTokenException("$TOKENIZER_FILE: $name '$found' is not supported by this app; expected none")
            }
            val dropout = values.get("dropout")
            if (dropout != null && !dropout.isJsonNull && dropout.asDouble != 0.0)
                throw FirstTokenException("$TOKENIZER_FILE: dropout $dropout is not supported by this app; expected none")
            return ModelSettings(flag(values.get("byte_fallback")), flag(values.get("ignore_merges")), text(values.get("unk_token")), flag(values.get("fuse_unk")))
        }

        private fun text(value: JsonElement?): String? = value?.takeIf { it.isJsonPrimitive }?.asString

        private fun flag(value: JsonElement?): Boolean = value != null && value.isJsonPrimitive && value.asBoolean
    }
}
