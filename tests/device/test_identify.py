"""What a phone is, from the output of Android 8 to 15."""

import outputs
import pytest

from firsttoken.device.identify import parse_clusters, parse_cores, parse_flags, parse_free, parse_memory, parse_properties
from firsttoken.targets.socs import SOCS, find_soc


@pytest.mark.parametrize(
    ("phone", "model", "soc", "hexagon"),
    [
        ("android8-pixel2", "Pixel 2", "msm8998", None),
        ("android11-xiaomi", "M2007J17G", "SM7225", None),
        ("android14-samsung", "SM-S928B", "Snapdragon 8 Gen 3 (SM8650-AC)", "V75"),
        ("android15-oneplus", "CPH2653", "Snapdragon 8 Elite (SM8750)", "V79"),
        ("android14-tensor", "Pixel 8 Pro", "Google Tensor G3", None),
    ],
)
def test_properties_and_soc(phone, model, soc, hexagon):
    properties = parse_properties(outputs.GETPROP[phone])
    assert properties["ro.product.model"] == model and properties["ro.build.version.sdk"].isdigit()
    assert find_soc(properties) == (soc, hexagon)


def test_a_property_of_several_lines():
    assert parse_properties(outputs.GETPROP["android11-xiaomi"])["persist.sys.note"] == "first line\nsecond [line]\nthird"
    assert parse_properties("") == parse_properties("garbage\n[x]: y\n") == {}


@pytest.mark.parametrize("model", ["SM8550", "sm8550-ac", "SM8550P"])
def test_letters_after_the_number_do_not_count(model):
    assert find_soc({"ro.soc.model": model})[1] == "V73"


def test_an_unknown_soc_has_no_generation():
    assert find_soc({"ro.soc.model": "SM9999", "ro.soc.manufacturer": "QTI"}) == ("SM9999", None)
    assert find_soc({}) == (None, None)


def test_the_soc_table_is_executorchs():
    schema = pytest.importorskip("executorch.backends.qualcomm.serialization.qc_schema")
    theirs = {chip.name: f"V{int(info.htp_info.htp_arch)}" for chip, info in schema._soc_info_table.items()}
    assert {model: soc.hexagon for model, soc in SOCS.items()} == {model: theirs[model] for model in SOCS}
    # every phone SoC it knows is here
    assert {model for model in theirs if model.startswith("SM8")} <= set(SOCS)


@pytest.mark.parametrize(
    ("text", "free"),
    [
        # toybox of Android 8 to 15
        (
            "Filesystem     1K-blocks      Used Available Use% Mounted on\n/dev/block/dm-57 233107412 97220460 135739496  42% /data\n",
            135739496 * 1024,
        ),
        # a long device name on a line of its own
        (
            "Filesystem           1K-blocks      Used Available Use% Mounted on\n/dev/block/platform/soc/1d84000.ufshc/by-name/userdata\n  51123968 30123456  20000512 61% /data\n",
            20000512 * 1024,
        ),
        # the older form of toolbox, which has no percentage
        ("Filesystem               Size     Used     Free   Blksize\n/data                   24.9G     7.2G    17.7G   4096\n", None),
        ("df: /data/local/tmp: Permission denied\n", None),
        ("", None),
    ],
)
def test_free_space(text, free):
    assert parse_free(text) == free


def test_memory_cores_clusters_flags():
    assert parse_memory(outputs.MEMINFO)["MemAvailable"] == 6291456 * 1024
    assert parse_memory("MemTotal: 99999999999999999999 kB\nnonsense") == {}
    assert [parse_cores(text) for text in ("0-7\n", "0-3,6\n", "0\n", "", "0-99999\n", "7-0\n")] == [8, 5, 1, None, None, None]
    text = "".join(f"/sys/devices/system/cpu/cpu{n}/cpufreq/cpuinfo_max_freq {f}\n" for n, f in enumerate((1804800, 1804800, 2841600)))
    assert parse_clusters(text + "/sys/devices/system/cpu/cpu9/cpufreq/cpuinfo_max_freq \n") == {"2841600": 1, "1804800": 2}
    assert parse_flags(outputs.CPUINFO) == ("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve")
    assert parse_flags("") == ()
