package dev.firsttoken.core.generate

import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import dev.firsttoken.core.bundle.BundleKey
import dev.firsttoken.core.bundle.MANIFEST_FILE
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.tokenizer.Tokenizer
import java.io.File

/** The demo checkpoint's tokenizer and a manifest of it, from the parity folder. */
object DemoFiles {
    val tokenizerFile: File get() = File(Parity.folder(), "vocabularies/demo/tokenizer.json")
    val manifestText: String get() = File(Parity.folder(), "demo_manifest.json").readText()

    /** The same of a bundle with an artifact for an NPU. */
    val npuManifestText: String get() = File(Parity.folder(), "npu_manifest.json").readText()

    fun tokenizer() = Tokenizer.read(tokenizerFile)

    fun manifest(text: String = manifestText): Manifest = ManifestReader.parse(JsonText.parseObject(text, MANIFEST_FILE))

    /** Fills [folder] with a bundle: the tokenizer, an artifact of five bytes, others of two, and the manifest with their sizes and hashes. */
    fun bundle(folder: File, text: String = manifestText): File {
        val manifest = JsonText.parseObject(text, "m")
        val files = manifest.getAsJsonObject("files")
        folder.mkdirs()
        for (name in files.keySet().toList()) {
            val file = File(folder, name)
            if (name == tokenizerFile.name) tokenizerFile.copyTo(file, overwrite = true) else file.writeText(if (name == "model.tflite") "12345" else "{}")
            files.add(name, facts(file))
        }
        File(folder, MANIFEST_FILE).writeText(manifest.toString())
        return folder
    }

    private fun facts(file: File) = JsonObject().apply {
        addProperty("sha256", BundleKey.sha256(file))
        addProperty("bytes", file.length())
    }
}
