package dev.firsttoken.core.generate

import dev.firsttoken.core.Parity
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.tokenizer.Tokenizer
import java.io.File

/** The demo checkpoint's tokenizer and a manifest of it, from the parity folder. */
object DemoFiles {
    val tokenizerFile: File get() = File(Parity.folder(), "vocabularies/demo/tokenizer.json")
    val manifestText: String get() = File(Parity.folder(), "demo_manifest.json").readText()

    fun tokenizer() = Tokenizer.read(tokenizerFile)

    fun manifest(): Manifest = ManifestReader.parse(JsonText.parseObject(manifestText, "demo_manifest.json"))
}
