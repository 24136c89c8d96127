package dev.firsttoken.core.json

import dev.firsttoken.core.assertRefused
import org.junit.Test

/** Each keyword by itself; the manifest's whole schema is held against Python's reader in ManifestReaderTest. */
class JsonSchemaTest {
    private fun schema(text: String) = JsonSchema(JsonText.parseObject(text, "schema"))

    private fun takes(rule: String, value: String) = schema("""{"properties": {"a": $rule}}""").check("file", JsonText.parseObject("""{"a": $value}""", "file"))

    private fun refuses(rule: String, value: String, said: String) = assertRefused(said) { takes(rule, value) }

    @Test fun typesAreStrict() {
        val good = mapOf("string" to "\"x\"", "integer" to "-7", "number" to "1e3", "boolean" to "false", "null" to "null", "array" to "[1]", "object" to "{}")
        for ((type, value) in good) {
            takes("""{"type": "$type"}""", value)
            for ((other, foreign) in good) if (other != type && (type to other) != ("number" to "integer")) refuses("""{"type": "$type"}""", foreign, "file: a is ")
        }
        takes("""{"type": "number"}""", "3")
        for (value in listOf("1.0", "1e3", "99999999999999999999")) refuses("""{"type": "integer"}""", value, "expected a whole number")
        refuses("""{"type": "number"}""", "1e999", "expected a number")
    }

    @Test fun boundsAreKept() {
        for ((keyword, good, bad) in listOf(
            Triple("\"minimum\": 2", "2", "1"), Triple("\"maximum\": 2", "2", "2.5"), Triple("\"exclusiveMinimum\": 0", "0.1", "0"), Triple("\"exclusiveMaximum\": 1", "0.9", "1"),
            Triple("\"multipleOf\": 32", "64", "33"), Triple("\"minItems\": 1", "[0]", "[]"), Triple("\"minLength\": 1", "\"😀\"", "\"\""), Triple("\"const\": 2", "2", "\"2\""),
            Triple("\"enum\": [\"x\", \"y\"]", "\"y\"", "\"z\""), Triple("\"pattern\": \"^[0-9a-f]{2}$\"", "\"0f\"", "\"0f\\n\""),
        )) {
            takes("{$keyword}", good)
            refuses("{$keyword}", bad, "a is ")
        }
        takes("""{"minimum": 2, "pattern": "^x$", "minItems": 1}""", "true") // each is asked of its own type only
    }

    @Test fun whatIsInsideIsNamedWithItsPlace() {
        val inner = """{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": false}"""
        takes("""{"items": $inner}""", """[{"x": 1}]""")
        refuses("""{"items": $inner}""", """[{"x": 1}, {}]""", "file: a[1].x is missing")
        refuses("""{"items": $inner}""", """[{"x": 1, "y": 2}]""", "a[0].y is not known; expected only x")
        refuses("""{"additionalProperties": $inner}""", """{"k": {"x": "1"}}""", "a.k.x is \"1\"; expected a whole number")
        refuses("""{"anyOf": [$inner, {"type": "null"}]}""", """{"x": 1.5}""", "a.x is 1.5; expected a whole number")
        refuses("""{"anyOf": [$inner, {"type": "null"}]}""", "3", "a is 3; expected an object or null")
        takes("""{"anyOf": [$inner, {"type": "null"}]}""", "null")
    }

    @Test fun definitionsAreFollowed() {
        val rooted = schema("""{"${'$'}defs": {"T": {"type": "string"}}, "properties": {"a": {"${'$'}ref": "#/${'$'}defs/T"}}}""")
        rooted.check("file", JsonText.parseObject("""{"a": "x"}""", "file"))
        assertRefused("a is 1; expected text") { rooted.check("file", JsonText.parseObject("""{"a": 1}""", "file")) }
    }

    @Test fun whatItDoesNotKnowIsAnError() {
        for (rule in listOf(
            """{"uniqueItems": true}""", """{"items": {"oneOf": []}}""", """{"anyOf": [{"not": {}}]}""", """{"additionalProperties": {"format": "x"}}""",
            """{"type": "date"}""", """{"${'$'}ref": "#/${'$'}defs/Nowhere"}""", """{"pattern": "[0-9]"}""",
        )) assertRefused("teach it to JsonSchema.kt") { schema("""{"properties": {"a": $rule}}""") }
    }
}
