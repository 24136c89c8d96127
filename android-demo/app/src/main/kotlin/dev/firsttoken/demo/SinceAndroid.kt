package dev.firsttoken.demo

/** What it marks is called only where the phone's Android is new enough; `scripts/build_apk --check-levels` leaves it out. */
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.FUNCTION, AnnotationTarget.CLASS)
annotation class SinceAndroid(val level: Int)
