package dev.firsttoken.core.generate

import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class ExactPromptTest {
    private val text get() = File(Parity.folder(), "held_out.txt").readText()

    @Test fun theCutsArePythons() {
        val tokenizer = DemoFiles.tokenizer()
        val chat = DemoFiles.manifest().chat
        val cases = Parity.cases(File(Parity.folder(), "prompts.jsonl"))
        assertTrue(cases.size >= 8)
        for (case in cases) {
            val template = if (case["chat"].asBoolean) chat else null
            val made = ExactPrompt(tokenizer, template, text).of(case["tokens"].asInt)
            assertEquals(case["text"].asString, made)
            assertEquals(case["tokens"].asInt, encodePrompt(tokenizer, made, template).size)
        }
    }

    @Test fun aTextThatIsTooShortIsRepeated() {
        val prompt = ExactPrompt(DemoFiles.tokenizer(), null, "one two three\nfour").of(200)
        assertEquals(200, encodePrompt(DemoFiles.tokenizer(), prompt, null).size)
    }

    @Test fun lessThanTheTemplateIsRefused() = assertRefused("a prompt of 2 tokens cannot be made") { ExactPrompt(DemoFiles.tokenizer(), DemoFiles.manifest().chat, "text").of(2) }
}
