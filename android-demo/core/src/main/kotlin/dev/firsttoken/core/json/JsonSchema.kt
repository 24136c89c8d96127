package dev.firsttoken.core.json

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import dev.firsttoken.core.FirstTokenException

/**
 * A JSON Schema, of the keywords that pydantic writes for firsttoken's own files; another one is an error, since it would go unchecked.
 *
 * As strict as Python's reader and so stricter than the standard: 1.0 is no integer, and a pattern is matched to the very end. Whole
 * numbers beyond 64 bits are refused. Raises [FirstTokenException] for a schema that it cannot apply.
 */
class JsonSchema(private val root: JsonObject) {
    /** What is wrong at [depth] levels inside of the document. */
    private class Problem(val path: String, val depth: Int, val found: String, val expected: String)

    init {
        verify(root)
    }

    /** Raises [FirstTokenException] with the first thing that is wrong with [value], in a sentence that begins with [source]. */
    fun check(source: String, value: JsonElement) {
        val problem = problem(root, value, "", 0) ?: return
        val expected = if (problem.expected.isEmpty()) "" else "; expected ${problem.expected}"
        throw FirstTokenException("$source: ${problem.path.ifEmpty { "it" }} is ${problem.found}$expected")
    }

    private fun problem(schema: JsonObject, value: JsonElement, path: String, depth: Int): Problem? {
        for ((keyword, rule) in schema.entrySet()) {
            val problem = when (keyword) {
                "\$ref" -> problem(definition(rule), value, path, depth)
                "anyOf" -> anyOf(rule.asJsonArray, value, path, depth)
                "properties" -> (value as? JsonObject)?.let { properties(rule.asJsonObject, it, path, depth) }
                "additionalProperties" -> (value as? JsonObject)?.let { additional(schema, rule, it, path, depth) }
                "required" -> (value as? JsonObject)?.let { found -> rule.asJsonArray.firstOrNull { !found.has(it.asString) }?.let { Problem(inside(path, it.asString), depth + 1, "missing", "") } }
                "items" -> (value as? JsonArray)?.let { items(rule.asJsonObject, it, path, depth) }
                else -> expectation(keyword, rule, value)?.let { Problem(path, depth, JsonText.describe(value), it) }
            }
            if (problem != null) return problem
        }
        return null
    }

    /** Of branches that all fail, what goes wrong deepest inside is what was meant; where none gets inside, any of them was expected. */
    private fun anyOf(branches: JsonArray, value: JsonElement, path: String, depth: Int): Problem? {
        val problems = branches.map { problem(it.asJsonObject, value, path, depth) ?: return null }
        val deepest = problems.maxBy { it.depth }
        return if (deepest.depth > depth) deepest else Problem(path, depth, deepest.found, problems.map { it.expected }.distinct().joinToString(" or "))
    }

    private fun properties(properties: JsonObject, value: JsonObject, path: String, depth: Int): Problem? =
        properties.entrySet().firstNotNullOfOrNull { (name, schema) -> value.get(name)?.let { problem(schema.asJsonObject, it, inside(path, name), depth + 1) } }

    private fun additional(schema: JsonObject, rule: JsonElement, value: JsonObject, path: String, depth: Int): Problem? {
        val known = schema.getAsJsonObject("properties")?.keySet().orEmpty()
        return value.entrySet().filter { it.key !in known }.firstNotNullOfOrNull { (name, item) ->
            if (rule is JsonObject) problem(rule, item, inside(path, name), depth + 1)
            else Problem(inside(path, name), depth + 1, "not known", "only ${known.sorted().joinToString()}").takeUnless { rule.asBoolean }
        }
    }

    private fun items(schema: JsonObject, value: JsonArray, path: String, depth: Int): Problem? =
        value.withIndex().firstNotNullOfOrNull { (place, item) -> problem(schema, item, "$path[$place]", depth + 1) }

    /** Returns what [keyword] asks of [value], or null where that is so, or is asked of values of another type only. */
    private fun expectation(keyword: String, rule: JsonElement, value: JsonElement): String? {
        val text = value.takeIf { isText(it) }?.asString
        val number = value.takeIf { isNumber(it) }?.asString?.toDouble()
        return when (keyword) {
            "type" -> TYPES.getValue(rule.asString).let { (title, fits) -> title.takeUnless { fits(value) } }
            "enum" -> rule.asJsonArray.let { possible -> "one of ${possible.joinToString { it.asString }}".takeUnless { value in possible } }
            "const" -> rule.toString().takeUnless { value == rule }
            "minimum" -> "at least $rule".takeIf { number != null && number < rule.asDouble }
            "maximum" -> "at most $rule".takeIf { number != null && number > rule.asDouble }
            "exclusiveMinimum" -> "more than $rule".takeIf { number != null && number <= rule.asDouble }
            "exclusiveMaximum" -> "less than $rule".takeIf { number != null && number >= rule.asDouble }
            "multipleOf" -> "a multiple of $rule".takeIf { number != null && (value.asString.toLongOrNull() ?: 1) % rule.asLong != 0L }
            "minItems" -> "at least $rule items".takeIf { value is JsonArray && value.size() < rule.asInt }
            "minLength" -> "at least $rule characters".takeIf { text != null && text.codePointCount(0, text.length) < rule.asInt }
            "pattern" -> "text like ${rule.asString}".takeIf { text != null && !Regex(rule.asString).matches(text) }
            else -> null // a note
        }
    }

    private fun definition(reference: JsonElement): JsonObject =
        reference.asString.removePrefix(DEFINITIONS).let { name -> root.getAsJsonObject("\$defs")?.getAsJsonObject(name) } ?: unusable("reference $reference is to nothing")

    /** Whether every keyword of [schema] and of those in it is known, and used as it is here. */
    private fun verify(schema: JsonObject) {
        for ((keyword, rule) in schema.entrySet()) {
            when (keyword) {
                "properties", "\$defs" -> rule.asJsonObject.entrySet().forEach { verify(it.value.asJsonObject) }
                "items" -> verify(rule.asJsonObject)
                "additionalProperties" -> (rule as? JsonObject)?.let(::verify)
                "anyOf" -> rule.asJsonArray.forEach { verify(it.asJsonObject) }
                "\$ref" -> definition(rule)
                "type" -> if (rule.asString !in TYPES) unusable("type $rule is not known")
                "pattern" -> if (!rule.asString.startsWith("^") || !rule.asString.endsWith("$")) unusable("pattern $rule is not of a whole text")
                !in RULES -> unusable("keyword '$keyword' is not known")
            }
        }
    }

    private fun unusable(why: String): Nothing = throw FirstTokenException("JSON Schema ${root.get("title") ?: ""}: $why; teach it to JsonSchema.kt")

    private fun inside(path: String, name: String) = if (path.isEmpty()) name else "$path.$name"

    companion object {
        private const val DEFINITIONS = "#/\$defs/"
        private val NOTES = setOf("title", "description", "default")
        private val RULES = NOTES + setOf("required", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "minLength")
        private val TYPES: Map<String, Pair<String, (JsonElement) -> Boolean>> = mapOf(
            "object" to Pair("an object") { it is JsonObject },
            "array" to Pair("a list") { it is JsonArray },
            "string" to Pair("text", ::isText),
            "boolean" to Pair("true or false") { it.isJsonPrimitive && it.asJsonPrimitive.isBoolean },
            "null" to Pair("null") { it.isJsonNull },
            "integer" to Pair("a whole number") { isNumber(it) && it.asString.toLongOrNull() != null },
            "number" to Pair("a number") { isNumber(it) && it.asString.toDouble().isFinite() },
        )

        private fun isText(value: JsonElement) = value.isJsonPrimitive && value.asJsonPrimitive.isString

        private fun isNumber(value: JsonElement) = value.isJsonPrimitive && value.asJsonPrimitive.isNumber

        /** The schema in the resource [path]. */
        fun packed(path: String): JsonSchema {
            val stream = JsonSchema::class.java.getResourceAsStream(path) ?: throw FirstTokenException("$path: not packed into this app; build it again")
            return JsonSchema(JsonText.parseObject(stream.use { it.readBytes() }.toString(Charsets.UTF_8), path))
        }
    }
}
