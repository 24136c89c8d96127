package dev.firsttoken.core.tokenizer

/** Unicode's White_Space, written out: `\s` and `Character.isWhitespace` mean something else on the JVM and on Android. */
internal object Whitespace {
    /** The characters as the inside of a regular expression's class. */
    const val CLASS = "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

    fun matches(character: Char): Boolean =
        when (character.code) {
            in 0x9..0xd, 0x20, 0x85, 0xa0, 0x1680, in 0x2000..0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000 -> true
            else -> false
        }
}
