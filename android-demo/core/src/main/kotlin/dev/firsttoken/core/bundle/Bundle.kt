package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.tokenizer.Tokenizer
import java.io.File

/** A bundle's folder with its manifest. Hashes of its files are checked by whoever brought it here. */
class Bundle private constructor(val folder: File, val manifest: Manifest) {
    /** The file of one of the manifest's artifacts. Raises [FirstTokenException] if it, or what it takes its weights from, is missing or not of the manifest's size. */
    fun artifact(artifact: Artifact = manifest.cpu): File {
        artifact.gpu?.weights?.let(::whole)
        return whole(artifact.file)
    }

    /** A file of packed weights that the manifest names. Raises [FirstTokenException] if it is missing or not of the manifest's size. */
    fun packed(file: PackedFile): File = whole(file.file)

    /** Loads the tokenizer, with the begin token and the special tokens that the manifest names. Raises [FirstTokenException]. */
    fun openTokenizer(): Tokenizer {
        val tokenizer = Tokenizer.read(whole("tokenizer.json"), manifest.tokenizer.begin, manifest.tokenizer.special)
        if (tokenizer.vocabularySize != manifest.tokenizer.vocabularySize) {
            throw FirstTokenException("tokenizer.json: ${tokenizer.vocabularySize} tokens, but the manifest says ${manifest.tokenizer.vocabularySize}; copy the bundle again")
        }
        return tokenizer
    }

    private fun whole(name: String): File {
        val facts = manifest.files[name] ?: throw FirstTokenException("$name: not among the bundle's files; export the checkpoint again")
        return File(folder, name).also { BundleFiles.checkSize(it, facts) }
    }

    companion object {
        /** Opens the bundle in [folder]. Raises [FirstTokenException] for a folder that is not a bundle, or a foreign version. */
        fun open(folder: File): Bundle = Bundle(folder, ManifestReader.read(folder))
    }
}
