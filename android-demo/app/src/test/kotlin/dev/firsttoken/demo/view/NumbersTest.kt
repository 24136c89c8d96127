package dev.firsttoken.demo.view

import org.junit.Assert.assertEquals
import org.junit.Test

class NumbersTest {
    @Test fun numbersAsPeopleReadThem() {
        assertEquals(listOf("5 KiB", "4.9 MiB", "4.66 GiB"), listOf(5_000L, 5_102_400L, 5_000_000_000L).map(Numbers::bytes))
        assertEquals(listOf("0.25 ms", "12 ms", "999 ms", "1.50 s"), listOf(250_000.0, 12_300_000.0, 999_400_000.0, 1.5e9).map(Numbers::milliseconds))
        assertEquals(listOf("8.00 billion", "3.1 million", "999"), listOf(8_000_000_000L, 3_100_000L, 999L).map(Numbers::count))
        assertEquals(listOf("0.00010", "0.031", "1.4", "23", "0.0"), listOf(1e-4, 0.0313, 1.36, 23.0, 0.0).map(Numbers::significant))
        assertEquals("97.7 %", Numbers.percent(0.977))
    }
}
