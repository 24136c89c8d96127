package dev.firsttoken.core.json

import java.io.IOException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class AtomicFileTest {
    @get:Rule val folder = TemporaryFolder()

    @Test fun replacesTheOlderFileAndLeavesNothingBeside() {
        val file = folder.newFile("a")
        AtomicFile.write(file, "one")
        AtomicFile.write(file, "twö")
        assertEquals("twö", file.readText())
        assertEquals(listOf("a"), folder.root.list()!!.toList())
    }

    @Test fun whatCannotBeWrittenLeavesTheOldFile() {
        val place = folder.newFolder("is-a-folder").also { it.resolve("inside").writeText("kept") }
        assertThrows(IOException::class.java) { AtomicFile.write(place, "new") }
        assertEquals("kept", place.resolve("inside").readText())
        assertEquals(listOf("is-a-folder"), folder.root.list()!!.toList())
    }
}
