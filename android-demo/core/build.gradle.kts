import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

// Classes for Java 17 from whatever JDK runs Gradle, 17 or newer: a toolchain of just 17 would have to be installed, or fetched from somewhere.
java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_17)
        freeCompilerArgs.add("-Xjdk-release=17")
    }
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
