package dev.firsttoken.core.chat

import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.generate.DemoFiles
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class DialogueTest {
    private val tokenizer by lazy { DemoFiles.tokenizer() }
    private val earlier = listOf(Turn("What is a token?", "A piece of text."))
    private val pieces = Regex("""\{"open":.*?"after_thinking":"none"}""")

    private fun dialogue(change: (String) -> String = { it }) = Dialogue(DemoFiles.manifest(change(DemoFiles.manifestText)))

    private fun Dialogue.ask(system: String? = null, cache: Int = 1280) = encode(tokenizer, system, earlier, "And then?", cache)

    @Test fun aConversationIsTokenizedAsAWhole() {
        val text = "<|im_start|>user\nWhat is a token?<|im_end|>\n<|im_start|>assistant\nA piece of text.<|im_end|>\n<|im_start|>user\nAnd then?<|im_end|>\n<|im_start|>assistant\n"
        assertNull(dialogue().alone)
        assertArrayEquals(tokenizer.encode(text, withBegin = false), dialogue().ask())
        assertArrayEquals(tokenizer.encode("<|im_start|>system\nBe brief.<|im_end|>\n$text", withBegin = false), dialogue().ask("Be brief."))
    }

    @Test fun aConversationLongerThanTheCacheIsRefusedByName() = assertRefused("the conversation is", "cache of 20", "start a new chat") { dialogue().ask(cache = 20) }

    @Test fun whereTheTemplateNeedsJinjaEveryQuestionIsByItselfAndSaysWhy() {
        val refused = dialogue { it.replace(pieces, "null").replace("\"conversation_refused\":null", "\"conversation_refused\":\"it counts the turns\"") }
        assertTrue(refused.alone!!, "cannot be written without Jinja (it counts the turns)" in refused.alone!!)
        assertEquals("<|im_start|>user\nAnd then?<|im_end|>\n<|im_start|>assistant\n", tokenizer.decode(refused.ask(), withSpecial = true))
        assertRefused("a system prompt cannot be given", "it counts the turns") { refused.ask("Be brief.") }
    }

    @Test fun anOlderBundleAndOneWithoutATemplateSaySo() {
        val older = dialogue { it.replace(pieces, "null") }
        assertTrue(older.alone!!, "export the checkpoint again" in older.alone!!)
        val plain = dialogue { it.replace(Regex("""("chat":)\{.*?}("conversation_refused":null)?}?(?=,"proven_on")"""), "$1null") }
        assertTrue(plain.alone!!, "no chat template" in plain.alone!!)
        assertArrayEquals(tokenizer.encode("And then?"), plain.ask())
    }

    @Test fun aTemplateWithoutSystemMessagesSaysSo() {
        val none = dialogue { it.replace(Regex(""""open_system":".*?","system_to_user":".*?""""), "\"open_system\":null,\"system_to_user\":null") }
        assertRefused("chat template takes none") { none.ask("Be brief.") }
    }

    @Test fun toolTokensAreTheOnesNamedSo() {
        val manifest = DemoFiles.manifest()
        assertEquals("the demo's tokenizer has none", emptySet<Int>(), ToolTokens.of(tokenizer, manifest))
    }
}
