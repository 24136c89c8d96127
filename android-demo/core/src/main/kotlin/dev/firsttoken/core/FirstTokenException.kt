package dev.firsttoken.core

/** What a user can put right: one sentence saying what was got, what was expected, and what to do next. */
class FirstTokenException(message: String) : Exception(harmless(message))

/** [text] as one line: control characters and marks that turn a line around are spelled out, as most messages repeat something of a file. */
internal fun harmless(text: String): String {
    if (text.none(::steers)) return text
    return buildString { for (letter in text) if (steers(letter)) append("\\u%04x".format(letter.code)) else append(letter) }
}

private fun steers(letter: Char) = letter.isISOControl() || letter in '\u202a'..'\u202e' || letter in '\u2066'..'\u2069'
