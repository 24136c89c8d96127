package dev.firsttoken.core.bundle

import com.google.gson.JsonObject
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import java.io.File

const val MANIFEST_FILE = "manifest.json"

/** Reads manifests, as strict as manifest.schema.json: another version, a missing or an unknown field is refused in one sentence. */
object ManifestReader {
    const val SCHEMA_VERSION = 1
    private const val LARGEST = 16L shl 20 // bytes; the audit of a large model takes some hundred kilobytes
    private val COUNT = 1..Int.MAX_VALUE

    /** Reads the manifest in [folder]. Raises [FirstTokenException]. */
    fun read(folder: File): Manifest = parse(JsonText.readObject(File(folder, MANIFEST_FILE), LARGEST, "a bundle's manifest, a folder without it is not a bundle"))

    fun parse(values: JsonObject): Manifest {
        val version = values.get("schema_version")
        if (version == null || !version.isJsonPrimitive || version.toString() != "$SCHEMA_VERSION") {
            throw FirstTokenException("$MANIFEST_FILE: schema_version is ${JsonText.describe(version)}; this app reads $SCHEMA_VERSION, export the bundle again or update the app")
        }
        return JsonFields.read(MANIFEST_FILE, values) { manifest() }
    }

    private fun JsonFields.manifest(): Manifest {
        int("schema_version")
        return Manifest(
            artifact = objectOf("artifact") { artifact() },
            checkpoint = objectOf("checkpoint") { checkpoint() },
            lineage = objectOrNull("lineage") { lineage() },
            plan = objectOf("plan") { plan() },
            target = objectOf("target") { target() },
            methods = objects("methods") { method() },
            cache = objectOf("cache") { cache() },
            tokenizer = objectOf("tokenizer") {
                TokenizerFacts(texts("files").onEach { checkPlain("files", it) }, int("vocab_size"), intOrNull("begin"), ints("end"), intMap("special"))
            },
            chat = objectOrNull("chat") { Chat(objectOf("prefix") { affix() }, objectOf("suffix") { affix() }) },
            proof = objectOrNull("proof") { proof() },
            audit = objectsOrEmpty("audit") { auditRow() },
            provenOn = objectsOrEmpty("proven_on") { armProof() },
            npu = objectOrNull("npu") { npu() },
            packages = textMap("packages"),
        )
    }

    private fun JsonFields.checkpoint() =
        CheckpointIdentity(text("name"), text("fingerprint"), text("family"), long("parameters"), int("hidden_size"), int("layers"), int("vocab_size"))

    private fun JsonFields.lineage() =
        Lineage(
            recipe = text("recipe"),
            recipeSha256 = text("recipe_sha256"),
            teachers = textMap("teachers"),
            trainingData = text("training_data"),
            heldOutData = text("held_out_data"),
            tokensSeen = long("tokens_seen"),
            reference = textOrNull("reference"),
        )

    private fun JsonFields.plan() =
        Plan(
            name = textOrDefault("name"),
            summary = text("summary"),
            groupSize = if (has("group_size")) int("group_size", 32..Int.MAX_VALUE).also { if (it % 32 != 0) refuse("group_size", "$it", "a multiple of 32") } else 32,
            rules = objects("rule", COUNT) {
                val match = text("match").also { if (it.isEmpty()) refuse("match", "empty", "a layer's name") }
                Rule(match, choice("precision", "fp32", "fp16", "int8", "int4"))
            },
            gate = objectOf("gate") {
                Gate(
                    meanKld = number("mean_kld", "a number above 0") { it > 0 },
                    p99Kld = number("p99_kld", "a number above 0") { it > 0 },
                    sameTop = number("same_top", "a number above 0, at most 1") { it > 0 && it <= 1 },
                    magnitude = number("magnitude", "a number between 0 and 1") { it > 0 && it < 1 },
                )
            },
        )

    private fun JsonFields.target() =
        Target(
            name = textOrDefault("name"),
            summary = text("summary"),
            runtime = choice("runtime", "tflite", "executorch"),
            delegate = choice("delegate", "xnnpack", "none"),
            cacheLength = int("cache_length", 2..MOST_TOKENS),
            prefillChunk = int("prefill_chunk", 1..MOST_TOKENS),
            minRuntime = text("min_runtime"),
            npu = objectOrNull("npu") { targetNpu() },
        )

    private fun JsonFields.affix() = Affix(text("text"), ints("tokens"))

    private fun JsonFields.proof() =
        Proof(
            text = text("text"),
            textSha256 = text("text_sha256"),
            prefill = objectOf("prefill") { figures() },
            decode = objectOf("decode") { figures() },
            all = objectOf("all") { figures() },
            passed = boolean("passed"),
            misses = textsOrEmpty("misses"),
        )

    private fun JsonFields.armProof() =
        ArmProof(
            core = text("core"),
            runtime = text("runtime"),
            runtimeVersion = text("runtime_version"),
            text = text("text"),
            textSha256 = text("text_sha256"),
            windows = int("windows"),
            arm = objectOf("arm") { figures() },
            host = objectOf("host") { figures() },
            armAgainstHost = objectOf("arm_against_host") { figures() },
            kernels = texts("kernels"),
        )

    private fun JsonFields.textOrDefault(name: String) = if (has(name)) text(name) else ""

    private const val MOST_TOKENS = 1 shl 20
}
