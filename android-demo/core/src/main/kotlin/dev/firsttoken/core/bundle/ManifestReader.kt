package dev.firsttoken.core.bundle

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.chat.ConversationPieces
import dev.firsttoken.core.chat.Trim
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonSchema
import dev.firsttoken.core.json.JsonText
import java.io.File

const val MANIFEST_FILE = "manifest.json"

/** Reads manifests. What may be in one is said by python/firsttoken/bundle/manifest.schema.json, which is packed into the app. */
object ManifestReader {
    const val SCHEMA_VERSION = 2
    private const val LARGEST = 16L shl 20 // bytes; the audit of a large model takes some hundred kilobytes
    private val schema by lazy { JsonSchema.packed("/firsttoken/manifest.schema.json") }

    /** Reads the manifest in [folder]. Raises [FirstTokenException]. */
    fun read(folder: File): Manifest = parse(JsonText.readObject(File(folder, MANIFEST_FILE), LARGEST, "a bundle's manifest, a folder without it is not a bundle"))

    /** Raises [FirstTokenException] for another version, what the schema does not take, and file names that cannot be. */
    fun parse(values: JsonObject): Manifest {
        checkVersion(values.get("schema_version"))
        checkKind(values.get("kind"))
        schema.check(MANIFEST_FILE, values)
        return JsonFields.pick(MANIFEST_FILE, values) { manifest() }.also(::checkNames)
    }

    private fun checkVersion(version: JsonElement?) {
        if (version?.toString() == "$SCHEMA_VERSION") return
        throw FirstTokenException("$MANIFEST_FILE: got schema version ${JsonText.describe(version)}, this app reads $SCHEMA_VERSION; export the checkpoint again")
    }

    private fun checkKind(kind: JsonElement?) {
        if (kind == null) return
        throw FirstTokenException("$MANIFEST_FILE: is of the kind ${JsonText.describe(kind)} (a classifier, an encoder, a series), which this app does not run; choose a language model's bundle")
    }

    private fun JsonFields.manifest() =
        Manifest(
            checkpoint = objectOf("checkpoint") { CheckpointIdentity(text("name"), text("fingerprint"), long("parameters"), int("hidden_size"), int("vocab_size")) },
            plan = objectOf("plan") { textOrDefault("name") },
            target = objectOf("target") { Target(textOrDefault("name"), text("delegate"), int("cache_length"), int("prefill_chunk")) },
            artifacts = objects("artifacts") { artifact() },
            rotations = objects("rotations") { Rotation(numbers("inverse_frequencies").map { it.toFloat() }.toFloatArray()) },
            tokenizer = objectOf("tokenizer") { TokenizerFacts(texts("files"), int("vocab_size"), intOrNull("begin"), ints("end"), intMap("special")) },
            chat = objectOrNull("chat") { chat() },
            files = objectMap("files") { FileFacts(text("sha256"), long("bytes")) },
            keptPrompt = objectOrNull("prefix") { KeptPrompt(text("file"), text("system"), ints("tokens")) },
            packed = objectOrNull("packed") { packed() },
        )

    private fun JsonFields.packed() =
        PackedWeights(boolean("only"), ints("prompt").toList(), objects("files") { packedFile() })

    private fun JsonFields.packedFile() =
        PackedFile(text("file"), text("isa"), text("package"), text("version"), text("artifact_sha256"), ints("top").toList(), numbers("largest").toList())

    private fun JsonFields.chat() =
        Chat(
            objectOf("prefix") { affix() },
            objectOf("suffix") { affix() },
            objectOrNull("conversation", ConversationPieces::read),
            textOrNull("conversation_refused"),
            Trim.read(this, "trim"),
        )

    private fun JsonFields.affix() = Affix(text("text"), ints("tokens"))

    private fun JsonFields.textOrDefault(name: String) = if (has(name)) text(name) else ""

    /** Names in a manifest are untrusted: they must not lead out of the bundle's folder, and every file that is used must have its hash. */
    private fun checkNames(manifest: Manifest) {
        manifest.files.keys.firstOrNull { !isPlain(it) }?.let {
            throw FirstTokenException("$MANIFEST_FILE: file name ${JsonText.describe(JsonPrimitive(it))} is not a plain, printable name; export again")
        }
        val others = manifest.artifacts.mapNotNull { it.npu?.embedding?.file } + manifest.artifacts.mapNotNull { it.gpu?.weights } + listOfNotNull(manifest.keptPrompt?.file) +
            manifest.packed?.files.orEmpty().map { it.file }
        (manifest.artifacts.map { it.file } + others + manifest.tokenizer.files).firstOrNull { it !in manifest.files }?.let {
            throw FirstTokenException("$MANIFEST_FILE: names ${JsonText.describe(JsonPrimitive(it))}, but not its hash under files; export again")
        }
    }

    private fun isPlain(name: String) = name !in setOf("", ".", "..", MANIFEST_FILE) && '/' !in name && name.codePoints().allMatch(::isPrintable)

    /** As Python's `str.isprintable`. */
    private fun isPrintable(character: Int) =
        character == ' '.code || when (Character.getType(character).toByte()) {
            Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED -> false
            Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR -> false
            else -> true
        }
}
