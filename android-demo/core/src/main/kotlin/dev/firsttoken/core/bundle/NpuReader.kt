package dev.firsttoken.core.bundle

import dev.firsttoken.core.json.JsonFields

/** Reads the manifest's `npu` part, as strict as manifest.schema.json. Raises `FirstTokenException` naming the field. */
internal fun JsonFields.npu() =
    Npu(
        artifact = objectOf("artifact") { artifact() },
        compiled = choice("compiled", "ahead", "device"),
        soc = textOrNull("soc"),
        hexagon = textOrNull("hexagon"),
        fp16 = choice("fp16", "documented", "unverified"),
        qnn = textOrNull("qnn"),
        sourceSha256 = text("source_sha256"),
        weightsShared = boolean("weights_shared"),
        prefillLengths = lengths("prefill_lengths"),
        methods = objects("methods") { method() },
        cache = objectOf("cache") { cache() },
        embedding = objectOf("embedding") { hostTable() },
        inverseFrequencies = numbers("inverse_frequencies").map { it.toFloat() }.toFloatArray(),
        masked = number("masked").toFloat(),
        graphs = objectsOrEmpty("graphs") { NpuGraph(text("method"), int("operators"), int("offloaded"), int("partitions"), textsOrEmpty("left")) },
        compileSeconds = if (has("compile_seconds")) number("compile_seconds") else 0.0,
        compileMemory = if (has("compile_memory")) long("compile_memory") else 0,
        audit = objectsOrEmpty("audit") { auditRow() },
        proof = objectOrNull("proof") { npuProof() },
    )

internal fun JsonFields.targetNpu() =
    TargetNpu(
        compile = if (has("compile")) choice("compile", "ahead", "device") else "ahead",
        soc = textOrNull("soc"),
        prefillLengths = lengths("prefill_lengths"),
        shareWeights = if (has("share_weights")) boolean("share_weights") else true,
        allowPartial = if (has("allow_partial")) boolean("allow_partial") else false,
    )

private fun JsonFields.hostTable() =
    HostTable(
        file = plainName("file"),
        dtype = choice("dtype", "float32", "float16", "int8"),
        rows = int("rows", 1..Int.MAX_VALUE),
        columns = int("columns", 1..Int.MAX_VALUE),
        offset = long("offset", 0..Long.MAX_VALUE),
        scalesOffset = longOrNull("scales_offset", 0..Long.MAX_VALUE),
    )

private fun JsonFields.npuProof() =
    NpuProof(
        backend = text("backend"),
        text = text("text"),
        textSha256 = text("text_sha256"),
        windows = int("windows"),
        lastPosition = int("last_position"),
        prefill = objectOf("prefill") { figures() },
        decode = objectOf("decode") { figures() },
        all = objectOf("all") { figures() },
        cpu = objectOf("cpu") { figures() },
        npuAgainstCpu = objectOf("npu_against_cpu") { figures() },
        passed = boolean("passed"),
        misses = textsOrEmpty("misses"),
    )

private fun JsonFields.lengths(name: String): IntArray = ints(name).also { if (it.isEmpty()) refuse(name, "a list of 0", "at least 1 length") }
