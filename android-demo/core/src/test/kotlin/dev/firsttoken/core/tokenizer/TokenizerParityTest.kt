package dev.firsttoken.core.tokenizer

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Every line and every sequence of every vocabulary that parity.py has made, against Hugging Face tokenizers. */
class TokenizerParityTest {
    private fun JsonElement.ints() = asJsonArray.map { it.asInt }

    private fun compare(what: String, expected: (JsonObject) -> Any?, got: (Tokenizer, JsonObject) -> Any?) {
        val folders = File(Parity.folder(), "vocabularies").listFiles()!!.sorted()
        assertTrue("at least 18 vocabularies", folders.size >= 18)
        val wrong = ArrayList<String>()
        for (folder in folders) {
            val tokenizer = Tokenizer.read(File(folder, "tokenizer.json"))
            val cases = Parity.cases(File(folder, "cases.jsonl"))
            assertTrue("${folder.name}: at least 2800 lines", cases.count { !it["text"].isJsonNull } >= 2800)
            for (case in cases) {
                val (wanted, found) = expected(case) to got(tokenizer, case)
                if (wanted != found) wrong += "${folder.name} $what of ${case["text"]} ${case["ids"].toString().take(80)}: expected $wanted, got $found"
            }
        }
        assertEquals("${wrong.size} differ:\n${wrong.take(12).joinToString("\n")}\n", 0, wrong.size)
    }

    @Test fun encodesTheSame() =
        compare("tokens", { case -> if (case["text"].isJsonNull) null else case["ids"].ints() }) { tokenizer, case ->
            if (case["text"].isJsonNull) null else tokenizer.encode(case["text"].asString).toList()
        }

    @Test fun decodesTheSame() =
        compare("text", { it["decoded"].asString }) { tokenizer, case -> tokenizer.decode(case["ids"].ints().toIntArray()) }

    @Test fun decodesSpecialTokensTheSame() =
        compare("text", { it["with_special"].asString }) { tokenizer, case -> tokenizer.decode(case["ids"].ints().toIntArray(), withSpecial = true) }

    @Test fun streamsTheSamePieces() =
        compare("pieces", { case -> case["pieces"].asJsonArray.map { it.asString } }) { tokenizer, case ->
            val stream = TextStream(tokenizer)
            case["ids"].ints().map(stream::add) + stream.finish()
        }

    @Test fun aSecondTokenizerIsNotNeededForTheSameAnswer() {
        // the words remembered from the first pass give the same tokens in the second
        val folder = File(Parity.folder(), "vocabularies/qwen2")
        val tokenizer = Tokenizer.read(File(folder, "tokenizer.json"))
        val texts = Parity.cases(File(folder, "cases.jsonl")).filter { !it["text"].isJsonNull }.map { it["text"].asString }
        val first = texts.map { tokenizer.encode(it).toList() }
        assertEquals(first, texts.map { tokenizer.encode(it).toList() })
    }
}
