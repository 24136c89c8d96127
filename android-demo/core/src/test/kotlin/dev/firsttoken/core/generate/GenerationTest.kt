package dev.firsttoken.core.generate

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** The loop and its clock, against what Python's made of the same tokens and the same times. */
class GenerationTest {
    private class RecordedClock(private val times: Iterator<Long>) : Clock {
        override fun nanoTime() = times.next()

        override fun wallMillis() = 0L
    }

    private class Heard(private val until: Int = Int.MAX_VALUE) : GenerationListener {
        val pieces = ArrayList<String>()
        val spent = ArrayList<Long>()

        override fun onToken(number: Int, text: String, nanoseconds: Long): Boolean {
            assertEquals(spent.size + 1, number)
            if (text.isNotEmpty()) pieces += text
            spent += nanoseconds
            return number < until
        }

        override fun onRest(text: String) {
            pieces += text
        }
    }

    private fun JsonElement.booleanOrNull() = if (isJsonNull) null else asBoolean

    @Test fun givesPythonsFiguresForTheSameRecordedRuns() {
        val cases = Parity.cases(File(Parity.folder(), "generations.jsonl"))
        assertEquals(60, cases.size)
        assertEquals("every way to stop", setOf("end", "length", "cache"), cases.map { it["expected"].asJsonObject["stopped"].asString }.toSet())
        val tokenizer = DemoFiles.tokenizer()
        assertTrue("many with a budget of thinking", cases.count { !it["thinking"].isJsonNull } > 15)
        for (case in cases) compare(case, tokenizer)
    }

    private fun compare(case: JsonObject, tokenizer: dev.firsttoken.core.tokenizer.Tokenizer) {
        val expected = case["expected"].asJsonObject
        val engine = ScriptedEngine(DemoFiles.manifest(), case["script"].asJsonArray.map { it.asInt }, case["cache_length"].asInt)
        val heard = Heard()
        val thinking = case["thinking"]?.takeUnless { it.isJsonNull }?.asJsonObject?.let {
            ThinkingBounds(it["most"].takeUnless { most -> most.isJsonNull }?.asInt, it["least"].asInt, it["ignore"].asInt, it["end"].asString)
        }
        val options = GenerationOptions(maxTokens = case["max_tokens"].asInt, chat = case["chat"].booleanOrNull(), stopAtEnd = case["stop_at_end"].asBoolean, thinking = thinking)
        val clock = RecordedClock(case["clock"].asJsonArray.map { it.asLong }.iterator())
        val found = Generation(engine, tokenizer, clock).run(case["prompt"].asString, options, heard)
        val figures = mapOf(
            "prompt_tokens" to found.promptTokens, "new_tokens" to found.newTokens, "tokenize" to found.tokenize, "prefill" to found.prefill, "sample" to found.sample,
            "detokenize" to found.detokenize, "decode" to found.decode, "first_token" to found.firstToken, "position" to engine.position,
        )
        for ((name, value) in figures) assertEquals(name, expected[name].asLong, value.toLong())
        assertEquals(expected["stopped"].asString, found.stopped.name.lowercase())
        assertEquals(expected["tokens_per_second"].asDouble, found.tokensPerSecond, 1e-12)
        assertEquals(expected["pieces"].asJsonArray.map { it.asString }, heard.pieces)
        assertEquals(expected["spent"].asJsonArray.map { it.asLong }, heard.spent)
    }

    @Test fun stopsWhenItIsToldTo() {
        val heard = Heard(until = 3)
        val found = Generation(ScriptedEngine(DemoFiles.manifest(), listOf(65)), DemoFiles.tokenizer()).run("hi", GenerationOptions(), heard)
        assertEquals(Stop.CANCELLED, found.stopped)
        assertEquals(3, heard.spent.size)
    }

    @Test fun theSecondRunStartsWithAnEmptyCache() {
        val engine = ScriptedEngine(DemoFiles.manifest(), listOf(65))
        val generation = Generation(engine, DemoFiles.tokenizer())
        repeat(2) { generation.run("hi", GenerationOptions(maxTokens = 2), Heard()) }
        assertEquals(engine.prompts[0].size + 1, engine.position)
    }

    @Test fun theNextTurnRunsOnlyWhatIsNew() {
        val engine = ScriptedEngine(DemoFiles.manifest(), listOf(65))
        val generation = Generation(engine, DemoFiles.tokenizer())
        val (first, second) = GenerationStatistics() to GenerationStatistics()
        generation.answer(GenerationOptions(maxTokens = 3), Heard(), first) { intArrayOf(1, 2, 3, 4) }
        // the first two new tokens are in the cache, the third was never run
        generation.answer(GenerationOptions(maxTokens = 1), Heard(), second) { intArrayOf(1, 2, 3, 4, 65, 65, 65, 9) }
        assertEquals(listOf(listOf(1, 2, 3, 4), listOf(65, 9)), engine.prompts)
        assertEquals(listOf(4, 0, 8, 6), listOf(first.promptTokens, first.cachedTokens, second.promptTokens, second.cachedTokens))
        generation.run("hi", GenerationOptions(maxTokens = 1), Heard())
        assertEquals("a prompt by itself begins anew", engine.prompts.last().size, engine.position)
    }

    @Test fun aToolCallIsShownWhereItsTokensAreNamed() {
        val tokenizer = DemoFiles.tokenizer()
        val special = tokenizer.special.entries.first { it.value !in DemoFiles.manifest().tokenizer.end }
        fun said(shown: Set<Int>): String {
            val heard = Heard()
            Generation(ScriptedEngine(DemoFiles.manifest(), listOf(special.value, 65, 65)), tokenizer).answer(GenerationOptions(maxTokens = 2), heard, GenerationStatistics(), shown) { intArrayOf(1) }
            return heard.pieces.joinToString("")
        }
        assertEquals(tokenizer.decode(intArrayOf(65)), said(emptySet()))
        assertEquals(special.key + tokenizer.decode(intArrayOf(65)), said(setOf(special.value)))
    }

    @Test fun promptsThatCannotBe() {
        val generation = Generation(ScriptedEngine(DemoFiles.manifest(), listOf(65)), DemoFiles.tokenizer())
        assertRefused("prompt is empty") { generation.run("", GenerationOptions(chat = false), Heard()) }
        assertRefused("do not fit the cache") { generation.run("word ".repeat(5000), GenerationOptions(), Heard()) }
        fun bounded(bounds: ThinkingBounds) = generation.run("x", GenerationOptions(thinking = bounds), Heard())
        assertRefused("at least 3 tokens of thinking are more than at most 2") { bounded(ThinkingBounds(2, 3)) }
        assertRefused("'</think>' is 5 tokens of this model, so the end of its thinking cannot be decided") { bounded(ThinkingBounds(2)) }
        assertRefused("the chat template writes 'assistant' before the answer") { bounded(ThinkingBounds(2, end = "assistant")) }
        assertRefused("max_tokens is 0") { generation.run("x", GenerationOptions(maxTokens = 0), Heard()) }
    }
}
