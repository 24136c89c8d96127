package dev.firsttoken.core.chat

import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.json.JsonFields
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class ConversationPiecesTest {
    private val cases by lazy { Parity.cases(File(Parity.folder(), "conversations.jsonl")) }

    private fun pieces(case: JsonObject) = JsonFields.read("t", case["pieces"].asJsonObject, read = ConversationPieces::read)

    private fun first(template: String) = pieces(cases.first { it["template"].asString == template })

    @Test fun theTextIsTheOneThatJinjaRenders() {
        assertTrue("${cases.size}", cases.size >= 300 && cases.map { it["template"].asString }.toSet().size >= 12)
        for (case in cases) {
            val (asked, answered) = listOf("asked", "answered").map { name -> case[name].asJsonArray.map { it.asString } }
            val system = case["system"].takeUnless { it.isJsonNull }?.asString
            assertEquals(case["template"].asString, case["text"].asString, pieces(case).write(system, asked, answered))
        }
    }

    @Test fun aTemplateWithoutSystemMessagesRefusesOne() {
        assertTrue(first("qwen3").takesSystem && !first("gemma2").takesSystem)
        assertRefused("takes no system message") { first("gemma2").write("Be brief.", listOf("hi"), emptyList()) }
    }

    @Test fun whetherAnAnswerBeginsInsideItsThoughts() = assertEquals(true to false, first("deepseek-r1").beginsInThought to first("qwen3").beginsInThought)

    @Test fun theManifestHasThem() {
        val chat = DemoFiles.manifest().chat!!
        assertEquals(chat.prefix.text + "hi" + chat.suffix.text, chat.conversation!!.write(null, listOf("hi"), emptyList()))
        assertNull(chat.conversationRefused)
    }

    @Test fun aTurnLeavesOutTheWhiteSpaceThatItsTemplateLeavesOut() {
        val (kept, trimmed) = listOf("none", "both").map { DemoFiles.manifest(DemoFiles.manifestText.replace("\"trim\":\"none\"", "\"trim\":\"$it\"")).chat!! }
        assertEquals(kept.prefix.text + " \nhi\u00a0" + kept.suffix.text, kept.turn(" \nhi\u00a0"))
        assertEquals(kept.turn("hi"), trimmed.turn(" \nhi\u00a0"))
    }

    @Test fun anOlderManifestHasNeitherPiecesNorAReasonAndIsRead() {
        val text = DemoFiles.manifestText
        val older = DemoFiles.manifest(text.replace(Regex("""\{"open":.*?"after_thinking":"none"}"""), "null").replace(""","conversation":null,"conversation_refused":null""", ""))
        assertTrue("conversation" in text)
        assertNotNull(older.chat)
        assertNull(older.chat!!.conversation)
        assertNull(older.chat!!.conversationRefused)
        val refused = DemoFiles.manifest(text.replace("\"conversation_refused\":null", "\"conversation_refused\":\"it counts the turns\""))
        assertEquals("it counts the turns", refused.chat!!.conversationRefused)
    }
}
