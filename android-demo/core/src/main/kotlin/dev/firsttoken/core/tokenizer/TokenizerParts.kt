package dev.firsttoken.core.tokenizer

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import java.text.Normalizer

/** Makes the parts of a tokenizer from their descriptions in `tokenizer.json`. What is not known is refused by name. */
internal object TokenizerParts {
    /** A pre-tokenizer, and whether it ends in GPT-2's alphabet of bytes. */
    class Splitting(val preTokenizer: PreTokenizer?, val byteLevel: Boolean)

    /** GPT-2's pattern, which `ByteLevel` uses by itself. */
    private const val GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

    fun normalizer(description: JsonObject?): TextNormalizer? {
        val steps = steps(description, "normalizers").map { (type, step) ->
            when (type) {
                "NFC", "NFD", "NFKC", "NFKD" -> fields("normalizer", step) { UnicodeForm(Normalizer.Form.valueOf(text("type"))) }
                "Prepend" -> fields("normalizer", step) {
                    text("type")
                    val prefix = text("prepend")
                    TextNormalizer { if (it.isEmpty()) it else prefix + it }
                }
                "Replace" -> fields("normalizer", step) {
                    text("type")
                    val (from, to) = literalPattern() to text("content")
                    TextNormalizer { it.replace(from, to) }
                }
                else -> refuse("normalizer", type, "NFC, NFD, NFKC, NFKD, Prepend, Replace")
            }
        }
        return if (steps.isEmpty()) null else steps.singleOrNull() ?: NormalizerSequence(steps)
    }

    fun splitting(description: JsonObject?): Splitting {
        val found = steps(description, "pretokenizers")
        val made = ArrayList<PreTokenizer>()
        found.forEachIndexed { place, (type, step) ->
            when (type) {
                "Split" -> made += fields("pre_tokenizer", step, ::split)
                "Digits" -> made += fields("pre_tokenizer", step, ::digits)
                "Metaspace" -> made += fields("pre_tokenizer", step) {
                    text("type")
                    MetaspaceSplit(replacement(), prependScheme(), booleanOrNull("split") ?: true)
                }
                "ByteLevel" -> {
                    if (place != found.lastIndex) throw FirstTokenException("$TOKENIZER_FILE: pre_tokenizer ByteLevel is not the last one; expected it at the end")
                    fields("pre_tokenizer", step) {
                        text("type")
                        booleanOrNull("trim_offsets") // offsets are not kept
                        if (boolean("add_prefix_space")) made += PrefixSpace
                        if (booleanOrNull("use_regex") ?: true) made += PatternSplit(RegexTranslation.compile(GPT2), SplitBehavior.Isolated, false)
                    }
                }
                else -> refuse("pre_tokenizer", type, "Split, Digits, Metaspace, ByteLevel")
            }
        }
        return Splitting(if (made.isEmpty()) null else made.singleOrNull() ?: SplitSequence(made), found.lastOrNull()?.first == "ByteLevel")
    }

    fun decoder(description: JsonObject?): List<DecoderStep> {
        if (description == null) throw FirstTokenException("$TOKENIZER_FILE: has no decoder; expected ByteLevel or SentencePiece's")
        return steps(description, "decoders").map { (type, step) ->
            when (type) {
                "ByteLevel" -> ByteLevelStep
                "ByteFallback" -> ByteFallbackStep
                "Fuse" -> FuseStep
                "Replace" -> fields("decoder", step) {
                    text("type")
                    ReplaceStep(literalPattern(), text("content"))
                }
                "Strip" -> fields("decoder", step) {
                    text("type")
                    StripStep(character("content"), int("start", 0..1000), int("stop", 0..1000))
                }
                "Metaspace" -> fields("decoder", step) {
                    text("type")
                    booleanOrNull("split")
                    MetaspaceStep(replacement(), prependScheme())
                }
                else -> refuse("decoder", type, "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace")
            }
        }
    }

    private fun split(fields: JsonFields): PreTokenizer =
        with(fields) {
            text("type")
            val pattern = objectOf("pattern") {
                textOrNull("String")?.let(::LiteralPattern) ?: RegexTranslation.compile(text("Regex"))
            }
            PatternSplit(pattern, SplitBehavior.valueOf(choice("behavior", *SplitBehavior.entries.map { it.name }.toTypedArray())), booleanOrNull("invert") ?: false)
        }

    private fun digits(fields: JsonFields): PreTokenizer =
        with(fields) {
            text("type")
            PatternSplit(RegexTranslation.numeric(), if (boolean("individual_digits")) SplitBehavior.Isolated else SplitBehavior.Contiguous, false)
        }

    private fun JsonFields.literalPattern(): String = objectOf("pattern") { textOrNull("String") ?: refuse("pattern", "a regular expression", "a plain String") }

    private fun JsonFields.character(name: String): Char = text(name).singleOrNull() ?: refuse(name, "not one character", "one character")

    private fun JsonFields.replacement(): Char = character("replacement").also { textOrNull("str_rep") }

    private fun JsonFields.prependScheme(): PrependScheme {
        // files older than tokenizers 0.15 know only add_prefix_space
        val older = booleanOrNull("add_prefix_space")
        val scheme = textOrNull("prepend_scheme") ?: return if (older == false) PrependScheme.never else PrependScheme.always
        return PrependScheme.entries.firstOrNull { it.name == scheme } ?: refuse("prepend_scheme", "'$scheme'", "always, first or never")
    }

    /** The steps of a Sequence, nested ones too, or the one step there is. */
    private fun steps(description: JsonObject?, list: String): List<Pair<String, JsonObject>> {
        if (description == null) return emptyList()
        val type = (description.get("type") as? JsonPrimitive)?.asString
            ?: throw FirstTokenException("$TOKENIZER_FILE: a part has no type; the file is damaged, copy it again")
        if (type != "Sequence") return listOf(type to description)
        val inner = description.get(list) as? JsonArray
            ?: throw FirstTokenException("$TOKENIZER_FILE: a Sequence has no $list; the file is damaged, copy it again")
        return inner.flatMap { steps(it as? JsonObject ?: notAnObject(it), list) }
    }

    private fun notAnObject(value: JsonElement): Nothing = throw FirstTokenException("$TOKENIZER_FILE: a part is ${JsonText.describe(value)}; expected an object, copy the file again")

    private fun <T> fields(kind: String, values: JsonObject, read: JsonFields.() -> T): T = JsonFields.read(TOKENIZER_FILE, values, kind, read)

    private fun refuse(kind: String, type: String, known: String): Nothing =
        throw FirstTokenException("$TOKENIZER_FILE: $kind '$type' is not supported by this app; expected one of $known")
}
