plugins {
    alias(libs.plugins.android.application) // it compiles Kotlin itself since 9.0
}

// What prompts of exact lengths are cut from: the same text as on the host.
val promptAssets = layout.buildDirectory.dir("promptAssets").get().asFile
val copyPromptText by tasks.registering(Copy::class) {
    from("../../python/firsttoken/demo/held_out.txt")
    into(promptAssets)
}

// -Pnpu adds Qualcomm's libraries, which have a licence of their own (README.md).
val npu = providers.gradleProperty("npu").isPresent

// The native runner, built by the NDK.
val nativeBuild = layout.projectDirectory.file("../native/CMakeLists.txt").asFile

android {
    namespace = "dev.firsttoken.demo"
    compileSdk = libs.versions.android.targetSdk.get().toInt()

    defaultConfig {
        applicationId = "dev.firsttoken.demo"
        minSdk = libs.versions.android.minSdk.get().toInt()
        targetSdk = libs.versions.android.targetSdk.get().toInt()
        versionCode = libs.versions.app.versionCode.get().toInt()
        versionName = libs.versions.app.versionName.get()
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
        externalNativeBuild {
            cmake {
                arguments += "-DANDROID_STL=c++_static" // the native runner brings no library but itself
            }
        }
        // which runtimes are in this build; engine/CarriedRuntimes.kt reads them
        resValue("string", "litert_version", libs.versions.litert.get())
        resValue("string", "tflite_version", "")
        resValue("string", "executorch_version", libs.versions.executorch.get())
    }

    // the native runner, over the libLiteRt.so of the AAR `litert`; Android Studio fetches NDK and CMake where they are missing
    ndkVersion = libs.versions.android.ndk.get()
    externalNativeBuild {
        cmake {
            path = nativeBuild
            version = libs.versions.android.cmake.get()
        }
    }

    buildFeatures {
        resValues = true
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"), "proguard-rules.pro")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    sourceSets.getByName("main").assets.directories.add(promptAssets.path)
    if (npu) sourceSets.getByName("main").kotlin.directories.add("src/npu/kotlin")

    packaging {
        jniLibs.useLegacyPackaging = npu // the DSP loads its libraries from a folder, so they must be unpacked
    }
}

tasks.named("preBuild") { dependsOn(copyPromptText) }

dependencies {
    implementation(project(":core"))
    implementation(libs.gson)
    implementation(libs.litert)
    implementation(libs.litert.gpu)
    implementation(libs.executorch)
    if (npu) {
        implementation(libs.litert.npu.qualcomm)
        implementation(libs.qnn.litert.delegate)
        implementation(libs.qnn.runtime)
    }
}
