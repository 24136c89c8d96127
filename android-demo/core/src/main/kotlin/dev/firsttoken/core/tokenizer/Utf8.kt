package dev.firsttoken.core.tokenizer

/** UTF-8 with replacement characters, the same on every platform: Java's decoder and Android's count bad bytes differently. */
internal object Utf8 {
    const val REPLACEMENT = '\uFFFD'

    /**
     * Decodes [bytes]; every longest start of a character that does not become one is one U+FFFD (The Unicode Standard, chapter 3.9,
     * "U+FFFD Substitution of Maximal Subparts"), as Rust's `from_utf8_lossy` and Python do.
     */
    fun decode(bytes: ByteArray, length: Int = bytes.size): String = StringBuilder(length).also { decode(bytes, length, it, strict = false) }.toString()

    /** Decodes [bytes] or returns null if they are not whole characters. */
    fun decodeStrictly(bytes: ByteArray): String? = StringBuilder(bytes.size).let { if (decode(bytes, bytes.size, it, strict = true)) it.toString() else null }

    private fun decode(bytes: ByteArray, length: Int, into: StringBuilder, strict: Boolean): Boolean {
        var place = 0
        while (place < length) {
            val first = bytes[place++].toInt() and 0xff
            if (first < 0x80) {
                into.append(first.toChar())
                continue
            }
            val more = if (first in 0xc2..0xdf) 1 else if (first in 0xe0..0xef) 2 else if (first in 0xf0..0xf4) 3 else 0
            var point = first and (0x3f shr more)
            var read = 0
            while (read < more && place < length) {
                val byte = bytes[place].toInt() and 0xff
                if (byte !in if (read == 0) secondBytes(first) else 0x80..0xbf) break
                point = (point shl 6) or (byte and 0x3f)
                place++
                read++
            }
            if (more == 0 || read < more) {
                if (strict) return false
                into.append(REPLACEMENT)
            } else {
                into.appendCodePoint(point)
            }
        }
        return true
    }

    /** Table 3-7 of the Unicode Standard: no overlong forms, no surrogates, nothing past U+10FFFF. */
    private fun secondBytes(first: Int): IntRange =
        when (first) {
            0xe0 -> 0xa0..0xbf
            0xed -> 0x80..0x9f
            0xf0 -> 0x90..0xbf
            0xf4 -> 0x80..0x8f
            else -> 0x80..0xbf
        }

    /** Returns [text] with every surrogate that has no partner replaced, since no UTF-8 text can hold one. */
    fun withoutLoneSurrogates(text: String): String {
        if (text.none(Char::isSurrogate)) return text
        val whole = StringBuilder(text.length)
        var place = 0
        while (place < text.length) {
            val point = text.codePointAt(place)
            place += Character.charCount(point)
            if (point in 0xd800..0xdfff) whole.append(REPLACEMENT) else whole.appendCodePoint(point)
        }
        return whole.toString()
    }
}
