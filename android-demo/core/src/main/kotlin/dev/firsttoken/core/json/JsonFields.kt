package dev.firsttoken.core.json

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import dev.firsttoken.core.FirstTokenException

/**
 * Strict access to a JSON object: a missing field, another type, a value out of bounds or an unknown field is one clear sentence.
 *
 * [source] names the file and [path] the object in it. Use [read], which refuses the fields that were not asked for, or [pick].
 */
class JsonFields private constructor(private val source: String, private val path: String, private val values: JsonObject, private val isWhole: Boolean) {
    private val asked = HashSet<String>()

    /** Whether the field is there, for those with a default; noted as known either way. */
    fun has(name: String): Boolean = values.has(name).also { asked += name }

    fun text(name: String): String = textOf(name, value(name))

    fun textOrNull(name: String): String? = optional(name)?.let { textOf(name, it) }

    fun choice(name: String, vararg possible: String): String {
        val found = text(name)
        return if (found in possible) found else refuse(name, "'${found.take(40)}'", "one of ${possible.joinToString(", ")}")
    }

    fun boolean(name: String): Boolean = booleanOf(name, value(name))

    fun booleanOrNull(name: String): Boolean? = optional(name)?.let { booleanOf(name, it) }

    fun long(name: String, range: LongRange = Long.MIN_VALUE..Long.MAX_VALUE): Long = longOf(name, value(name), range)

    fun longOrNull(name: String, range: LongRange = Long.MIN_VALUE..Long.MAX_VALUE): Long? = optional(name)?.let { longOf(name, it, range) }

    fun int(name: String, range: IntRange = Int.MIN_VALUE..Int.MAX_VALUE): Int = intOf(name, value(name), range)

    fun intOrNull(name: String, range: IntRange = Int.MIN_VALUE..Int.MAX_VALUE): Int? = optional(name)?.let { intOf(name, it, range) }

    fun number(name: String, expected: String = "a number", fits: (Double) -> Boolean = { true }): Double = numberOf(name, value(name), expected, fits)

    fun numberOrNull(name: String, expected: String = "a number", fits: (Double) -> Boolean = { true }): Double? =
        optional(name)?.let { numberOf(name, it, expected, fits) }

    fun texts(name: String): List<String> = listOf(name, value(name)).mapIndexed { place, item -> textOf("$name[$place]", item) }

    fun textsOrEmpty(name: String): List<String> = if (has(name)) texts(name) else emptyList()

    fun ints(name: String): IntArray = listOf(name, value(name)).mapIndexed { place, item -> intOf("$name[$place]", item, WHOLE) }.toIntArray()

    fun numbers(name: String): List<Double> = listOf(name, value(name)).mapIndexed { place, item -> numberOf("$name[$place]", item, "a number") { true } }

    fun intMap(name: String): Map<String, Int> = mapOf(name) { at, item -> intOf(at, item, WHOLE) }

    fun intMapOrEmpty(name: String): Map<String, Int> = if (has(name)) intMap(name) else emptyMap()

    fun numberMapOrEmpty(name: String): Map<String, Double> =
        if (has(name)) mapOf(name) { at, item -> numberOf(at, item, "a number") { true } } else emptyMap()

    fun <T> objectOf(name: String, read: JsonFields.() -> T): T = objectAt(name, value(name), read)

    fun <T> objectOrNull(name: String, read: JsonFields.() -> T): T? = optional(name)?.let { objectAt(name, it, read) }

    fun <T> objects(name: String, sizes: IntRange = 0..Int.MAX_VALUE, read: JsonFields.() -> T): List<T> {
        val found = listOf(name, value(name))
        if (found.size() !in sizes) refuse(name, "a list of ${found.size()}", if (sizes.last == Int.MAX_VALUE) "at least ${sizes.first}" else "${sizes.first} to ${sizes.last}")
        return found.mapIndexed { place, item -> objectAt("$name[$place]", item, read) }
    }

    fun <T> objectsOrEmpty(name: String, read: JsonFields.() -> T): List<T> = if (has(name)) objects(name, read = read) else emptyList()

    fun <T> objectMap(name: String, read: JsonFields.() -> T): Map<String, T> = mapOf(name) { at, item -> objectAt(at, item, read) }

    /** A list whose items are whole numbers or names, as text. */
    fun dimensions(name: String): List<String> =
        listOf(name, value(name)).mapIndexed { place, item ->
            if (item.isText()) item.asString else intOf("$name[$place]", item, WHOLE).toString()
        }

    /** Throws the sentence for field [name]. */
    fun refuse(name: String, found: String, expected: String): Nothing =
        throw FirstTokenException("$source: ${if (path.isEmpty()) "" else "$path."}$name is $found; expected $expected")

    private fun value(name: String): JsonElement {
        asked += name
        return values.get(name) ?: throw FirstTokenException("$source: ${if (path.isEmpty()) "" else "$path."}$name is missing")
    }

    private fun optional(name: String): JsonElement? {
        asked += name
        return values.get(name)?.takeUnless { it.isJsonNull }
    }

    private fun textOf(at: String, value: JsonElement) = if (value.isText()) value.asString else refuse(at, JsonText.describe(value), "text")

    private fun booleanOf(at: String, value: JsonElement) =
        if (value.isJsonPrimitive && value.asJsonPrimitive.isBoolean) value.asBoolean else refuse(at, JsonText.describe(value), "true or false")

    private fun longOf(at: String, value: JsonElement, range: LongRange): Long {
        val found = if (value.isNumber()) value.asString.toLongOrNull() else null
        return found?.takeIf { it in range } ?: refuse(at, JsonText.describe(value), "a whole number${bounds(range)}")
    }

    private fun intOf(at: String, value: JsonElement, range: IntRange): Int = longOf(at, value, range.first.toLong()..range.last.toLong()).toInt()

    private fun numberOf(at: String, value: JsonElement, expected: String, fits: (Double) -> Boolean): Double {
        val found = if (value.isNumber()) value.asString.toDoubleOrNull() else null
        return found?.takeIf { it.isFinite() && fits(it) } ?: refuse(at, JsonText.describe(value), expected)
    }

    private fun listOf(at: String, value: JsonElement): JsonArray = value as? JsonArray ?: refuse(at, JsonText.describe(value), "a list")

    private fun <T> mapOf(name: String, read: (String, JsonElement) -> T): Map<String, T> {
        val found = value(name) as? JsonObject ?: refuse(name, JsonText.describe(values.get(name)), "an object")
        return found.entrySet().associate { (key, item) -> key to read("$name.$key", item) }
    }

    private fun <T> objectAt(at: String, value: JsonElement, read: JsonFields.() -> T): T {
        val found = value as? JsonObject ?: refuse(at, JsonText.describe(value), "an object")
        return JsonFields(source, if (path.isEmpty()) at else "$path.$at", found, isWhole).finished(read)
    }

    private fun <T> finished(read: JsonFields.() -> T): T = read().also { if (isWhole) finish() }

    private fun finish() {
        val unknown = values.keySet().firstOrNull { it !in asked } ?: return
        throw FirstTokenException("$source: ${if (path.isEmpty()) "" else "$path."}$unknown is not known; expected only ${asked.sorted().joinToString(", ")}")
    }

    companion object {
        private val WHOLE = Int.MIN_VALUE..Int.MAX_VALUE

        /** Lets [read] take its fields from [values] and returns what it made. Raises [FirstTokenException]. */
        fun <T> read(source: String, values: JsonObject, path: String = "", read: JsonFields.() -> T): T = JsonFields(source, path, values, isWhole = true).finished(read)

        /** The same of an object that its schema has checked: fields that are not asked for are left alone. */
        fun <T> pick(source: String, values: JsonObject, read: JsonFields.() -> T): T = JsonFields(source, "", values, isWhole = false).finished(read)

        private fun JsonElement.isText() = isJsonPrimitive && asJsonPrimitive.isString

        private fun JsonElement.isNumber() = isJsonPrimitive && asJsonPrimitive.isNumber

        private fun bounds(range: LongRange) =
            when {
                range.first > Int.MIN_VALUE && range.last < Int.MAX_VALUE -> " from ${range.first} to ${range.last}"
                range.first > Int.MIN_VALUE -> ", at least ${range.first}"
                else -> ""
            }
    }
}
