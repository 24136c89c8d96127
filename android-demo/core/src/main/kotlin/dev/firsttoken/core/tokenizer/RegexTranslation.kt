package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.FirstTokenException
import java.util.regex.Pattern
import java.util.regex.PatternSyntaxException

/**
 * Turns a `tokenizer.json` regular expression (Oniguruma, Ruby syntax) into one that Java's and Android's engines take the same way.
 *
 * Those two differ from Oniguruma and from each other in `\s`, `\d`, `\p{…}`, in what ignoring case means and in how spaces are read. So
 * everything that stands for several characters becomes a set of our own, and the engine matches text in which only those sets are told
 * apart ([SmallAlphabet]). What is not listed here is refused by name: a pattern that is nearly right would give nearly right tokens.
 */
internal class RegexTranslation private constructor(private val source: String) {
    private val out = ArrayList<Any>() // texts as they are, and sets that are written when all are known
    private var place = 0
    private val ignoringCase = ArrayDeque(listOf(false))

    private fun translate(): CharacterPattern {
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
                    out += CodePoints.of(0xa..0xa).complement()
                }
                '$'.code -> {
                    place++
                    out += "(?=\\x{A}|\\z)" // Ruby's: at the end of every line
                }
                '^'.code -> refuse("'^'")
                else -> {
                    literal(found)
                    place += Character.charCount(found)
                }
            }
        }
        if (ignoringCase.size != 1) refuse("'(' without ')'")
        val alphabet = SmallAlphabet(out.filterIsInstance<CodePoints>().distinctBy { it.bounds.asList() })
        if (alphabet.kinds > SmallAlphabet.MOST) refuse("${alphabet.kinds} kinds of characters")
        return CharacterPattern(Pattern.compile(out.joinToString("") { if (it is CodePoints) alphabet.expression(it) else it as String }), alphabet)
    }

    private fun group() {
        if (!source.startsWith("(?", place)) { // no back references, so nothing needs to be captured
            place++
            out += "(?:"
            ignoringCase.addLast(ignoringCase.last())
            return
        }
        val kind = KINDS.firstOrNull { source.startsWith(it, place) } ?: refuse("'${source.drop(place).take(4)}'")
        place += kind.length
        out += if ('i' in kind) "(?:" else kind
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
        out += setEscape() ?: return literal(escapedLiteral(source.getOrNull(place + 1)))
    }

    /** The set that the escape at [place] stands for, moving past it; null where it stands for one character. */
    private fun setEscape(): CodePoints? {
        val letter = source.getOrNull(place + 1)
        if (letter == 'p' || letter == 'P') return property()
        val set =
            when (letter) {
                's', 'S' -> Whitespace.SET
                'd', 'D' -> CodePoints.category("Nd")!!
                else -> return null
            }
        place += 2
        return if (letter.isUpperCase()) set.complement() else set
    }

    private fun characterClass() {
        if (ignoringCase.last()) refuse("a class of characters while ignoring case")
        place++
        val negated = source.getOrNull(place) == '^'
        if (negated) place++
        val start = place
        val sets = ArrayList<CodePoints>()
        while (true) {
            val found = if (place < source.length) source.codePointAt(place) else refuse("'[' without ']'")
            when (found) {
                ']'.code -> if (place == start) refuse("'[]'") else break
                '['.code -> refuse("a class inside a class")
                '&'.code -> if (source.startsWith("&&", place)) refuse("'&&'")
            }
            val set = if (found == '\\'.code) setEscape() else null
            if (set != null) {
                sets += set
                continue
            }
            val low = member()
            val isRange = source.getOrNull(place) == '-' && source.getOrNull(place + 1).let { it != null && it != ']' } && !(low == '-'.code && place == start + 1)
            if (isRange) place++
            val high = if (isRange) member() else low
            if (high < low) refuse("a range that ends before it begins")
            sets += CodePoints.of(low..high)
        }
        place++
        out += CodePoints.union(sets).let { if (negated) it.complement() else it }
    }

    /** The one character at [place] inside a class; moves past it. */
    private fun member(): Int {
        val found = source.codePointAt(place)
        if (found == '\\'.code) return escapedLiteral(source.getOrNull(place + 1))
        if (found == '['.code) refuse("a class inside a class")
        place += Character.charCount(found)
        return found
    }

    /** `\p{…}`: a general category or a script. */
    private fun property(): CodePoints {
        val found = PROPERTY.matchAt(source, place) ?: refuse("'${source.drop(place).take(8)}'")
        val (sign, name) = found.destructured
        val set = (if (name.length <= 2) CodePoints.category(name) else CodePoints.script(name)) ?: refuse("'${found.value}'")
        place += found.value.length
        return if (sign == "P") set.complement() else set
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
        out += variants ?: if (point < SmallAlphabet.ASCII) quote(point) else CodePoints.of(point..point)
    }

    /** Every simple case variant of a letter: Unicode folds U+017F with s and U+212A with k. */
    private fun caseVariants(point: Int): CodePoints? =
        when {
            point >= 0x80 -> refuse("a letter outside ASCII while ignoring case")
            !point.toChar().isLetter() -> null
            else -> {
                val lower = point.toChar().lowercaseChar()
                val more = if (lower == 's') 0x17f else if (lower == 'k') 0x212a else point
                CodePoints.of(lower.code..lower.code, lower.uppercaseChar().code..lower.uppercaseChar().code, more..more)
            }
        }

    private fun quote(point: Int): String = if (point.toChar().isLetterOrDigit()) point.toChar().toString() else SmallAlphabet.hex(point)

    private fun take(text: String) {
        place += text.length
        out += text
    }

    private fun refuse(what: String): Nothing =
        throw FirstTokenException("$TOKENIZER_FILE: the regular expression $source has $what, which this app does not know; expected a tokenizer of a supported family")

    companion object {
        private val KINDS = listOf("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:")
        private val COUNTED = Regex("\\{\\d{1,4}(,\\d{0,4})?\\}")
        private val PROPERTY = Regex("\\\\([pP])\\{([A-Z][a-z]?|[A-Z][a-z]{2,20})\\}")
        private val HEX = Regex("\\\\x\\{([0-9A-Fa-f]{1,6})\\}|\\\\x([0-9A-Fa-f]{2})|\\\\u([0-9A-Fa-f]{4})")

        /** Returns [expression] ready to match. Raises [FirstTokenException] naming what it cannot take over. */
        fun compile(expression: String): TextPattern =
            try {
                RegexTranslation(expression).translate()
            } catch (error: PatternSyntaxException) {
                throw FirstTokenException("$TOKENIZER_FILE: the regular expression $expression cannot be used (${error.description}); expected a tokenizer of a supported family")
            }

        /** One character that `Digits` takes for a digit. */
        fun numeric(): TextPattern {
            val set = CodePoints.numeric()
            val alphabet = SmallAlphabet(listOf(set))
            return CharacterPattern(Pattern.compile(alphabet.expression(set)), alphabet)
        }
    }
}
