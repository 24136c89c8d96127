plugins {
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation(libs.gson)
    testImplementation(libs.junit)
}

// What Python writes and checks manifests by; ManifestReader.kt reads it.
tasks.processResources {
    from("../../python/firsttoken/bundle/manifest.schema.json") { into("firsttoken") }
}

tasks.test {
    useJUnit()
    // what tests/android/parity.py has made; without it the parity tests are skipped
    providers.gradleProperty("firsttoken.parity").orNull?.let { systemProperty("firsttoken.parity", it) }
}
