package dev.firsttoken.core.bundle

import dev.firsttoken.core.json.JsonFields

/** Reads one of the manifest's `artifacts`, which the schema has checked. */
internal fun JsonFields.artifact() =
    Artifact(
        file = text("file"),
        needs = objectOf("needs") { Needs(text("runtime"), text("min_runtime"), textOrNull("soc")) },
        methods = objects("methods") { Method(text("name"), objects("inputs") { tensor() }, objects("outputs") { tensor() }) },
        states = objects("states") { state() },
        npu = objectOrNull("npu") { npuFacts() },
        proof = objectOrNull("proof") { proof() },
        gpu = objectOrNull("gpu") { GpuFacts(ints("prefill_lengths"), number("masked").toFloat(), textOrNull("weights")) },
    )

private fun JsonFields.tensor() = Tensor(text("name"), dimensions("shape"), text("dtype"))

private fun JsonFields.state() =
    State(
        int("layer"), text("held_by"), dimensions("shape"), text("dtype"), int("axis"), int("length"), if (has("step")) int("step") else 1, text("advances"),
        intOrNull("window", 1..Int.MAX_VALUE),
    )

private fun JsonFields.npuFacts() =
    NpuFacts(text("compiled"), ints("prefill_lengths"), objectOf("embedding") { hostTable() }, number("masked").toFloat())

private fun JsonFields.hostTable() =
    HostTable(text("file"), text("dtype"), int("rows"), int("columns"), long("offset"), longOrNull("scales_offset"))

private fun JsonFields.proof(): Proof {
    val passed = boolean("passed")
    return objectOf("all") { Proof(number("mean_kld"), number("p99_kld"), number("same_top"), passed) }
}
