package dev.firsttoken.core.tokenizer

import java.text.Normalizer

/** What is done to text before it is split. */
internal fun interface TextNormalizer {
    fun normalize(text: String): String
}

internal class NormalizerSequence(private val steps: List<TextNormalizer>) : TextNormalizer {
    override fun normalize(text: String) = steps.fold(text) { made, step -> step.normalize(made) }
}

/** A Unicode normalization form. Most text is in it already, which is found out faster than doing it. */
internal class UnicodeForm(private val form: Normalizer.Form) : TextNormalizer {
    override fun normalize(text: String): String = if (Normalizer.isNormalized(text, form)) text else Normalizer.normalize(text, form)
}
