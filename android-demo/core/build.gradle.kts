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

tasks.test {
    useJUnit()
    // what tests/android/parity.py has made; without it the parity tests are skipped
    providers.gradleProperty("firsttoken.parity").orNull?.let { systemProperty("firsttoken.parity", it) }
}
