package dev.firsttoken.core.bundle

import dev.firsttoken.core.json.JsonFields

/** Parts that a manifest has in more than one place. */
internal fun JsonFields.artifact() = Artifact(plainName("file"), text("sha256"), long("bytes"))

internal fun JsonFields.method() = Method(text("name"), objects("inputs") { tensor() }, objects("outputs") { tensor() })

internal fun JsonFields.tensor() = Tensor(text("name"), dimensions("shape"), choice("dtype", "float32", "float16", "int32", "int64"))

internal fun JsonFields.cache() =
    Cache(
        heldBy = choice("held_by", "host", "artifact"),
        layers = int("layers"),
        shape = dimensions("shape"),
        axis = int("axis"),
        dtype = choice("dtype", "float32", "float16"),
        length = int("length"),
        step = if (has("step")) int("step") else 1,
    )

internal fun JsonFields.auditRow() = AuditRow(text("layer"), text("asked"), text("stored"), text("computed"), boolean("delegated"))

internal fun JsonFields.figures() =
    Figures(
        tokens = int("tokens"),
        meanKld = number("mean_kld"),
        p99Kld = number("p99_kld"),
        p999Kld = number("p999_kld"),
        sameTop = number("same_top"),
        perplexity = number("perplexity"),
        referencePerplexity = number("reference_perplexity"),
        perplexityChange = number("perplexity_change"),
        magnitudeRatio = number("magnitude_ratio"),
        firstDiverging = textOrNull("first_diverging"),
    )

internal fun JsonFields.plainName(name: String): String = text(name).also { checkPlain(name, it) }

/** A name in a manifest is untrusted: it must not lead out of the bundle's folder. */
internal fun JsonFields.checkPlain(field: String, name: String) {
    if (name.isEmpty() || name == "." || name == ".." || name.any { it == '/' || it == '\\' || it.code == 0 }) refuse(field, "'$name'", "a plain file name")
}
