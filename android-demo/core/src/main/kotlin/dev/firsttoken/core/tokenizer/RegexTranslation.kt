package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.FirstTokenException
import java.util.regex.Pattern
import java.util.regex.PatternSyntaxException

/**
 * Turns a `tokenizer.json` regular expression (Oniguruma, Ruby syntax) into one that Java's and Android's engines take the same way.
 *
 * Those two differ from Oniguruma and from each other in `\s`, `\d`, in what ignoring case means and in how spaces are read, so all of
 * it is written out. What is not listed here is refused by name: a pattern that is nearly right would give nearly right tokens.
 */
internal class RegexTranslation private constructor(private val source: String) {
    private val out = StringBuilder()
    private var place = 0
    private val ignoringCase = ArrayDeque(listOf(false))

    private fun translate(): String {
        while (place < source.length) {
            when (val found = source.codePointAt(place)) {
                '('.code -> group()
                ')'.code -> {
                    if (ignoringCase.size == 1) refuse("')' without '('")
                    ignoringCase.removeLast()
                    take(")")
                }
                '['.code -> characterClass()
                '\\'.code -> escape()
                '|'.code -> take("|")
                '?'.code, '*'.code, '+'.code -> quantifier()
                '{'.code -> counted()
                '.'.code -> {
                    place++
                    out.append("[^\\x{A}]")
                }
                '^'.code, '$'.code -> refuse("'${source[place]}'")
                else -> {
                    literal(found)
                    place += Character.charCount(found)
                }
            }
        }
        if (ignoringCase.size != 1) refuse("'(' without ')'")
        return out.toString()
    }

    private fun group() {
        if (!source.startsWith("(?", place)) { // no back references, so nothing needs to be captured
            place++
            out.append("(?:")
            ignoringCase.addLast(ignoringCase.last())
            return
        }
        val kind = KINDS.firstOrNull { source.startsWith(it, place) } ?: refuse("'${source.drop(place).take(4)}'")
        place += kind.length
        out.append(if ('i' in kind) "(?:" else kind)
        ignoringCase.addLast(if ('i' in kind) kind == "(?i:" else ignoringCase.last())
    }

    private fun quantifier() {
        take(source[place].toString())
        if (place < source.length && source[place] in "?+") take(source[place].toString())
    }

    private fun counted() {
        val found = COUNTED.matchAt(source, place) ?: refuse("'{' that is no repetition")
        take(found.value)
        if (place < source.length && source[place] == '+') refuse("'${found.value}+'") // greedy in Ruby, possessive in Java
        if (place < source.length && source[place] == '?') take("?")
    }

    private fun escape() {
        when (val found = source.getOrNull(place + 1)) {
            's' -> emit("[${Whitespace.CLASS}]")
            'S' -> emit("[^${Whitespace.CLASS}]")
            'd' -> emit("\\p{Nd}")
            'D' -> emit("\\P{Nd}")
            'p', 'P' -> out.append(property())
            else -> literal(escapedLiteral(found))
        }
    }

    private fun characterClass() {
        if (ignoringCase.last()) refuse("a class of characters while ignoring case")
        take("[")
        if (source.getOrNull(place) == '^') take("^")
        val start = place
        while (true) {
            val found = if (place < source.length) source.codePointAt(place) else refuse("'[' without ']'")
            when (found) {
                ']'.code -> if (place == start) refuse("'[]'") else break
                '['.code -> refuse("a class inside a class")
                '&'.code -> if (source.startsWith("&&", place)) refuse("'&&'") else member(found)
                '-'.code -> {
                    val first = place == start
                    val last = source.getOrNull(place + 1) == ']'
                    if (first || last) member(found) else take("-")
                }
                '\\'.code ->
                    when (val next = source.getOrNull(place + 1)) {
                        's' -> emit(Whitespace.CLASS)
                        'S' -> emit("[^${Whitespace.CLASS}]")
                        'd' -> emit("\\p{Nd}")
                        'p', 'P' -> out.append(property())
                        else -> out.append(quote(escapedLiteral(next)))
                    }
                else -> member(found)
            }
        }
        take("]")
    }

    private fun member(found: Int) {
        out.append(quote(found))
        place += Character.charCount(found)
    }

    /** `\p{…}`: a general category, or a script, which the engines write differently. */
    private fun property(): String {
        val found = PROPERTY.matchAt(source, place) ?: refuse("'${source.drop(place).take(8)}'")
        place += found.value.length
        val (sign, name) = found.destructured
        return if (name.length <= 2) "\\$sign{$name}" else "\\$sign{script=$name}"
    }

    /** The character that the escape at [place] stands for; moves past it. */
    private fun escapedLiteral(next: Char?): Int {
        val hex = HEX.matchAt(source, place)
        if (hex != null) {
            place += hex.value.length
            return hex.groupValues.drop(1).first { it.isNotEmpty() }.toInt(16)
        }
        place += 2
        return when (next) {
            'r' -> 0xd
            'n' -> 0xa
            't' -> 0x9
            'f' -> 0xc
            'v' -> 0xb
            null -> refuse("'\\' at the end")
            else -> if (next.code < 0x80 && !next.isLetterOrDigit()) next.code else refuse("'\\$next'")
        }
    }

    private fun literal(point: Int) {
        val variants = if (ignoringCase.last()) caseVariants(point) else null
        out.append(variants ?: quote(point))
    }

    /** Every simple case variant of a letter: Unicode folds U+017F with s and U+212A with k. */
    private fun caseVariants(point: Int): String? =
        when {
            point >= 0x80 -> refuse("a letter outside ASCII while ignoring case")
            !point.toChar().isLetter() -> null
            else -> {
                val (upper, lower) = point.toChar().let { it.uppercaseChar() to it.lowercaseChar() }
                "[$upper$lower${if (lower == 's') "\\x{17F}" else if (lower == 'k') "\\x{212A}" else ""}]"
            }
        }

    private fun quote(point: Int): String =
        if (point < 0x80 && !point.toChar().isLetterOrDigit()) "\\x{${Integer.toHexString(point).uppercase()}}" else String(Character.toChars(point))

    private fun emit(text: String) {
        place += 2
        out.append(text)
    }

    private fun take(text: String) {
        place += text.length
        out.append(text)
    }

    private fun refuse(what: String): Nothing =
        throw FirstTokenException("$TOKENIZER_FILE: the regular expression $source has $what, which this app does not know; expected a tokenizer of a supported family")

    companion object {
        private val KINDS = listOf("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:")
        private val COUNTED = Regex("\\{\\d{1,4}(,\\d{0,4})?\\}")
        private val PROPERTY = Regex("\\\\([pP])\\{([A-Z][a-z]?|[A-Z][a-z]{2,20})\\}")
        private val HEX = Regex("\\\\x\\{([0-9A-Fa-f]{1,6})\\}|\\\\x([0-9A-Fa-f]{2})|\\\\u([0-9A-Fa-f]{4})")

        /** Returns [expression] ready to match. Raises [FirstTokenException] naming what it cannot take over. */
        fun compile(expression: String): Pattern =
            try {
                Pattern.compile(RegexTranslation(expression).translate())
            } catch (error: PatternSyntaxException) {
                throw FirstTokenException("$TOKENIZER_FILE: the regular expression $expression cannot be used (${error.description}); expected a tokenizer of a supported family")
            }
    }
}
