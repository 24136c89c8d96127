"""What phones print, by Android version and vendor: the forms are those of AOSP's sources and of captures that people published."""

GETPROP = {
    # Android 8, Snapdragon 835, before ro.soc.model
    "android8-pixel2": """\
[dalvik.vm.heapsize]: [512m]
[ro.board.platform]: [msm8998]
[ro.build.version.release]: [8.1.0]
[ro.build.version.sdk]: [27]
[ro.hardware]: [walleye]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 2]
[ro.serialno]: [FA79X1A01234]
""",
    # Android 11, MIUI; a value with brackets, one of several lines
    "android11-xiaomi": """\
[persist.sys.note]: [first line
second [line]
third]
[ro.board.platform]: [lito]
[ro.build.version.release]: [11]
[ro.build.version.sdk]: [30]
[ro.hardware.chipname]: [SM7225]
[ro.miui.ui.version.name]: [V125]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.product.manufacturer]: [Xiaomi]
[ro.product.model]: [M2007J17G]
[ro.serialno]: [1a2b3c4d]
""",
    # Android 14, One UI
    "android14-samsung": """\
[ro.board.platform]: [pineapple]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.manufacturer]: [samsung]
[ro.product.model]: [SM-S928B]
[ro.serialno]: [R5CX10ABCDE]
[ro.soc.manufacturer]: [QTI]
[ro.soc.model]: [SM8650-AC]
""",
    "android15-oneplus": """\
[ro.board.platform]: [sun]
[ro.build.version.release]: [15]
[ro.build.version.sdk]: [35]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.manufacturer]: [OnePlus]
[ro.product.model]: [CPH2653]
[ro.serialno]: [9abc0123]
[ro.soc.manufacturer]: [QTI]
[ro.soc.model]: [SM8750]
""",
    "android14-tensor": """\
[ro.board.platform]: [zuma]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8 Pro]
[ro.serialno]: [37011FDJG00001]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
""",
}

NO_SERVICE = "Can't find service: thermalservice\n"

THERMAL = {
    "android8": NO_SERVICE,
    # One UI on Android 12: sensors that are not fitted say 0
    "android12-samsung": """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 1
	killed: false
	broadcasts count: -1
ThermalStatusListeners:
	callbacks: 4
	killed: false
	broadcasts count: -1
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
	Temperature{mValue=45.6, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=23.8, mType=2, mName=BAT, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL 2.0 connected: yes
Current temperatures from HAL:
	Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=23.8, mType=2, mName=BAT, mStatus=0}
	Temperature{mValue=24.7, mType=3, mName=LRB, mStatus=0}
	Temperature{mValue=25.7, mType=5, mName=PA, mStatus=0}
	Temperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
	Temperature{mValue=0.0, mType=4, mName=USB, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
""",
    # a Pixel: many sensors, battery currents and voltages among them, a virtual sensor with its own unit, exponents
    "android14-pixel": """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
	killed: false
	broadcasts count: -1
Thermal Status: 2
Cached temperatures:
	Temperature{mValue=65.0, mType=0, mName=MID, mStatus=0}
	Temperature{mValue=41.302, mType=3, mName=VIRTUAL-SKIN, mStatus=2}
HAL Ready: true
HAL connection:
	Thermal HAL AIDL 2  connected: yes
Current temperatures from HAL:
	Temperature{mValue=71.000004, mType=0, mName=BIG, mStatus=0}
	Temperature{mValue=66.0, mType=0, mName=MID, mStatus=0}
	Temperature{mValue=64.0, mType=1, mName=G3D, mStatus=0}
	Temperature{mValue=58.0, mType=9, mName=TPU, mStatus=0}
	Temperature{mValue=41.302002, mType=3, mName=VIRTUAL-SKIN, mStatus=2}
	Temperature{mValue=36.100002, mType=2, mName=battery, mStatus=0}
	Temperature{mValue=-5700.0, mType=-1, mName=VIRTUAL-QUIET, mStatus=0}
	Temperature{mValue=4.212, mType=6, mName=vbat, mStatus=0}
	Temperature{mValue=1.5E-4, mType=7, mName=ibat, mStatus=0}
	Temperature{mValue=88.0, mType=8, mName=soc, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=3, mName=tpu_cooling}
Temperature static thresholds from HAL:
	TemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds=[NaN, 39.0, 43.0, 45.0, 46.5, 52.0, 55.0]}
""",
    # the HAL is not there: only what was cached when the phone started
    "android11-no-hal": """\
IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=31.0, mType=3, mName=skin, mStatus=0}
HAL Ready: false
""",
}

HARDWARE_PROPERTIES = """\
****** Dump of HardwarePropertiesManagerService ******
CPU temperatures: [38.0, 39.5, 0.0, -3.4028235E38]
CPU throttling temperatures: [95.0, 95.0, 95.0, 95.0]
CPU shutdown temperatures: [115.0, 115.0, 115.0, 115.0]
GPU temperatures: [36.0]
Battery temperatures: [27.4]
Battery throttling temperatures: []
Skin temperatures: [29.9]
Fan speed: []
"""

BATTERY = {
    "android8": """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 5
  health: 2
  present: true
  level: 100
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
""",
    # vendors append logs that repeat the names
    "android14-samsung": """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 2848000
  status: 3
  health: 2
  present: true
  level: 72
  scale: 100
  voltage: 3906
  temperature: 357
  technology: Li-ion
  Charging state: 0
  Charging policy: 0
  Capacity level: -1
[EventLogBuffer]
08-11 18:34:14.721  Sending ACTION_BATTERY_CHANGED: level:72, health:2, voltage:4120, temperature:345
  level: 5
""",
    "emulator-without": """\
Current Battery Service state:
  (UPDATES STOPPED -- use 'reset' to restart)
  AC powered: true
  present: false
  level: 0
  scale: 0
  temperature: 0
""",
}

POWER = {
    "awake": "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n  mWakefulness=Awake\n  mWakefulnessChanging=false\n",
    "asleep": "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n  mWakefulness=Asleep\n  mWakefulnessChanging=false\n",
    "dozing": "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n  mWakefulness=Dozing\n",
}


def policy(showing: bool, secure: bool, awake: bool, android: int) -> str:
    """``dumpsys window policy``; Android 8 has a line ``showingAndNotOccluded``, Android 15 has no ``secure`` but ``trusted``."""

    def word(value: bool) -> str:
        return "true" if value else "false"

    lines = ["WINDOW MANAGER POLICY STATE (dumpsys window policy)", "    KeyguardServiceDelegate", f"      showing={word(showing)}"]
    if android < 10:
        lines.append(f"      showingAndNotOccluded={word(showing)}")
    lines += [f"      inputRestricted={word(showing)}", "      occluded=false"]
    lines.append(f"      secure={word(secure)}" if android < 15 else f"      trusted={word(not secure)}")
    lines += [
        "      dreaming=false",
        "      systemIsReady=true",
        "      deviceHasKeyguard=true",
        "      enabled=true",
        "      bootCompleted=true",
    ]
    lines += [
        f"      screenState=SCREEN_STATE_{'ON' if awake else 'OFF'}",
        f"      interactiveState=INTERACTIVE_STATE_{'AWAKE' if awake else 'SLEEP'}",
    ]
    lines += [
        "      KeyguardStateMonitor",
        f"        mIsShowing={word(showing)}",
        "        mSimSecure=false",
        f"        mInputRestricted={word(showing)}",
    ]
    return "\n".join(lines) + "\n"


def trust(locked: bool) -> str:
    return f"""Trust manager state:
 User "Owner" (id=0, flags=0x4c13) (current): trusted=0, trustManaged=1, deviceLocked={int(locked)}, strongAuthRequired=0x0
   Enabled agents:
 User "Work" (id=10, flags=0x1030) (managed profile): trusted=0, trustManaged=0, deviceLocked=1, strongAuthRequired=0x1
"""


PACKAGE = "dev.firsttoken.demo"

JAVA_CRASH = """\
--------- beginning of crash
03-01 10:11:12.345  {pid}  4711 E AndroidRuntime: FATAL EXCEPTION: benchmark
03-01 10:11:12.345  {pid}  4711 E AndroidRuntime: Process: dev.firsttoken.demo, PID: {pid}
03-01 10:11:12.345  {pid}  4711 E AndroidRuntime: java.lang.IllegalStateException: Internal error: Failed to apply XNNPACK delegate
03-01 10:11:12.345  {pid}  4711 E AndroidRuntime: 	at org.tensorflow.lite.NativeInterpreterWrapper.init(NativeInterpreterWrapper.java:106)
03-01 10:11:12.345  {pid}  4711 E AndroidRuntime: 	at dev.firsttoken.demo.LiteEngine.open(LiteEngine.kt:41)
03-01 10:11:12.345  {pid}  4711 E AndroidRuntime: Caused by: java.lang.OutOfMemoryError: Failed to allocate a 536870928 byte allocation
"""

NATIVE_CRASH = """\
--------- beginning of crash
03-01 10:11:12.001  {pid}  {pid} F libc    : Fatal signal 6 (SIGABRT), code -1 (SI_QUEUE) in tid 4711 (benchmark), pid {pid} (firsttoken.demo)
03-01 10:11:12.345  4800  4800 F DEBUG   : *** *** *** *** *** *** *** *** *** *** *** *** *** *** *** ***
03-01 10:11:12.345  4800  4800 F DEBUG   : Build fingerprint: 'samsung/e3sxxx/e3s:14/UP1A.231005.007/S928BXXS:user/release-keys'
03-01 10:11:12.345  4800  4800 F DEBUG   : ABI: 'arm64'
03-01 10:11:12.345  4800  4800 F DEBUG   : pid: {pid}, tid: 4711, name: benchmark  >>> dev.firsttoken.demo <<<
03-01 10:11:12.345  4800  4800 F DEBUG   : uid: 10345
03-01 10:11:12.345  4800  4800 F DEBUG   : signal 6 (SIGABRT), code -1 (SI_QUEUE), fault addr --------
03-01 10:11:12.345  4800  4800 F DEBUG   : Abort message: 'In function evaluate(), assert failed (tensor): out of range'
03-01 10:11:12.345  4800  4800 F DEBUG   :     x0  0000000000000000  x1  0000000000001267  x2  0000000000000006  x3  0000007a1b2c3d4e
03-01 10:11:12.345  4800  4800 F DEBUG   : backtrace:
03-01 10:11:12.345  4800  4800 F DEBUG   :       #00 pc 000000000005a5f0  /apex/com.android.runtime/lib64/bionic/libc.so (abort+168) (BuildId: 4e07915368)
03-01 10:11:12.345  4800  4800 F DEBUG   :       #01 pc 0000000000123456  /data/app/~~x==/dev.firsttoken.demo-y==/base.apk!libexecutorch.so (offset 0x1000)
"""

EXIT_INFO = """\
ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)
Last Timestamp of Persistence Into Persistent Storage: 2026-03-01 09:00:06.558
  package: dev.firsttoken.demo
    Historical Process Exit for uid=10345
        ApplicationExitInfo #0:
          timestamp=2026-03-01 10:11:12.345 pid={pid} realUid=10345 packageUid=10345 definingUid=10345 user=0
          process=dev.firsttoken.demo reason={reason} subreason=0 (UNKNOWN) status=9
          importance=100 pss=0.00 rss=1.9GB description={description} state=empty trace=null
        ApplicationExitInfo #1:
          timestamp=2026-02-28 08:00:00.000 pid=99 realUid=10345 packageUid=10345 definingUid=10345 user=0
          process=dev.firsttoken.demo reason=10 (USER REQUESTED) subreason=21 (FORCE STOP) status=0
          importance=100 pss=0.00 rss=0.00 description=stop dev.firsttoken.demo due to from pid 1 state=empty trace=null
"""

LOW_MEMORY_LOG = {
    "android8": "03-01 10:11:12.345   600   600 I lowmemorykiller: Killing 'dev.firsttoken.demo' ({pid}), adj 0\n",
    "android10": "03-01 10:11:12.345   600   600 I lowmemorykiller: Kill 'dev.firsttoken.demo' ({pid}), uid 10345, oom_adj 0 to free 1843200kB\n",
    "android12": "03-01 10:11:12.345   600   600 I lmkd    : Kill 'dev.firsttoken.demo' ({pid}), uid 10345, oom_score_adj 0 to free 1843200kB rss, 12kB swap; reason: critical pressure and device is low on memory\n",
    "died": "03-01 10:11:12.345  1500  1600 I ActivityManager: Process dev.firsttoken.demo (pid {pid}) has died: fg  TOP\n",
}

CPUINFO = """\
processor	: 0
BogoMIPS	: 38.40
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 asimddp sve i8mm bf16
CPU implementer	: 0x41
CPU part	: 0xd80

Hardware	: Qualcomm Technologies, Inc SM8650
"""

MEMINFO = """\
MemTotal:       11534336 kB
MemFree:          612344 kB
MemAvailable:    6291456 kB
Buffers:            8192 kB
SwapTotal:       8388604 kB
HugePages_Total:       0
"""
