package dev.firsttoken.core.chat

import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages
import java.io.File
import java.nio.file.Files
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class ConversationFileTest {
    private val folder = Files.createTempDirectory("firsttoken-conversation").toFile()
    private val kept = ConversationFile(File(folder, "conversation.json"))
    private val whole = Turn("Why?\n\"é\" 😀", "<think>\nHm.\n</think>\n\nSo.", true, Stages(1, 2, 3, 4, 5, 6), 40, 30, 9, 12.5, 77, Stop.END, ArtifactInUse(0, "no NPU"), RunnerInUse(RunnerInUse.JAVA, "no library"))

    @After fun clean() {
        folder.deleteRecursively()
    }

    @Test fun whatIsKeptIsReadBack() {
        kept.write(KeptConversation("abc", "FAILED", "out of memory", listOf(whole, Turn("And?"))))
        val found = kept.read()!!
        assertEquals(listOf("abc", "FAILED", "out of memory"), listOf(found.bundle, found.phase, found.error))
        assertEquals(whole.stages!!.byName, found.turns[0].stages!!.byName)
        assertEquals(listOf(whole.copy(stages = null), Turn("And?")), found.turns.map { it.copy(stages = null) })
        kept.delete()
        assertNull(kept.read())
    }

    @Test fun aDamagedFileIsNoConversation() {
        kept.write(KeptConversation("abc", "DONE", null, listOf(whole)))
        val file = File(folder, "conversation.json")
        val text = file.readText()
        for (damaged in listOf("", "{}", text.dropLast(1), text.replace("\"turns\":[", "\"turns\":[1,"), text.replace("\"END\"", "\"NEVER\""), text.replace("\"question\"", "\"asked\""), text.replace(Regex("\\[.*]"), "[]"))) {
            file.writeText(damaged)
            assertNull(damaged, kept.read())
        }
    }

    @Test fun theFileIsBounded() {
        kept.write(KeptConversation("abc", "DONE", null, List(100) { Turn("question $it") }))
        val turns = kept.read()!!.turns
        assertEquals(ConversationFile.MOST_TURNS to "question 99", turns.size to turns.last().question)
    }

    @Test fun whereItCannotBeWrittenNoOlderOneIsLeft() {
        kept.write(KeptConversation("abc", "DONE", null, listOf(whole)))
        val blocked = File(folder, ".conversation.json.partial").apply { mkdirs() }
        File(blocked, "x").writeText("in the way")
        kept.write(KeptConversation("abc", "DONE", null, listOf(Turn("newer"))))
        assertFalse(File(folder, "conversation.json").exists())
        assertTrue(blocked.exists())
    }
}
