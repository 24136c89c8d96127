package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.tokenizer.Tokenizer
import java.io.File

/** A bundle's folder with its manifest. */
class Bundle private constructor(val folder: File, val manifest: Manifest) {
    /** The artifact's file. Raises [FirstTokenException] if it is missing or not of the manifest's size. Its hash is checked by whoever brought it here. */
    fun artifact(): File = whole(manifest.artifact)

    /** The file of the manifest's `npu`, which must be there. Raises like [artifact]. */
    fun npuArtifact(): File = whole(checkNotNull(manifest.npu) { "the bundle has no NPU artifact" }.artifact)

    private fun whole(artifact: Artifact): File {
        val file = File(folder, artifact.file)
        if (!file.isFile) throw FirstTokenException("${artifact.file}: missing from the bundle; copy the bundle again")
        if (file.length() != artifact.bytes) {
            throw FirstTokenException("${artifact.file}: ${file.length()} bytes, but the manifest says ${artifact.bytes}; copy the bundle again")
        }
        return file
    }

    /** Loads the tokenizer, with the begin token the manifest names. Raises [FirstTokenException]. */
    fun openTokenizer(): Tokenizer {
        val tokenizer = Tokenizer.read(File(folder, "tokenizer.json"), manifest.tokenizer.begin)
        if (tokenizer.vocabularySize != manifest.tokenizer.vocabularySize) {
            throw FirstTokenException("tokenizer.json: ${tokenizer.vocabularySize} tokens, but the manifest says ${manifest.tokenizer.vocabularySize}; copy the bundle again")
        }
        return tokenizer
    }

    companion object {
        /** Opens the bundle in [folder]. Raises [FirstTokenException] for a folder that is not a bundle, or a foreign version. */
        fun open(folder: File): Bundle = Bundle(folder, ManifestReader.read(folder))
    }
}
