/* Where Android's C library differs from this machine's in name, in layout or in numbers; everything else is passed on.
   A function own_NAME stands in for bionic's NAME (scripts/android/natives/stand_ins.py). Compiles as C and as C++. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Code for bionic on arm64 reads its stack guard 40 bytes behind the thread pointer. Preloaded, this library's thread-local
   bytes are the first ones there, and nobody writes them. */
__attribute__((tls_model("initial-exec"), used)) __thread char bionic_slots[64];

void *bionic_functions[BIONIC_FUNCTIONS];
static const char *const names[] = {BIONIC_NAMES};
static const char *const libraries[] = {"libc.so.6", "libm.so.6", "libgcc_s.so.1"};

__attribute__((constructor)) static void find_functions(void) {
    for (unsigned k = 0; k < sizeof libraries / sizeof *libraries; k++) {
        void *library = dlopen(libraries[k], RTLD_NOW);
        for (unsigned n = 0; library && n < BIONIC_FUNCTIONS; n++)
            if (!bionic_functions[n]) bionic_functions[n] = dlsym(library, names[n]);
    }
}

/* A symbol for which there is no stand-in. */
void bionic_missing(const char *name) {
    fprintf(stderr, "\nthe library called %s of Android's system, which has no stand-in here; write own_%s in scripts/android/natives/bionic.c\n", name, name);
    abort();
}

/* Streams: bionic's are an array of three structures of 152 bytes, or pointers to them; these are never looked into. */
static char *streams;
void bionic_set_streams(char *three) { streams = three; }

static FILE *stream(void *given) {
    char *place = (char *)given;
    if (!streams || place < streams || place >= streams + 3 * 152) return (FILE *)given;
    long number = (place - streams) / 152;
    return number == 0 ? stdin : number == 1 ? stdout : stderr;
}

int own_vfprintf(void *to, const char *format, va_list values) { return vfprintf(stream(to), format, values); }
int own_fprintf(void *to, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = vfprintf(stream(to), format, values);
    va_end(values);
    return written;
}
size_t own_fwrite(const void *from, size_t size, size_t count, void *to) { return fwrite(from, size, count, stream(to)); }
int own_fputc(int c, void *to) { return fputc(c, stream(to)); }
int own_putc(int c, void *to) { return fputc(c, stream(to)); }
int own_fputs(const char *text, void *to) { return fputs(text, stream(to)); }
int own_fflush(void *to) { return fflush(to ? stream(to) : NULL); }
int own_fileno(void *of) { return fileno(stream(of)); }
int own_fclose(void *which) { return fclose(stream(which)); }
int own_ferror(void *of) { return ferror(stream(of)); }
int own_getc(void *from) { return getc(stream(from)); }
int own_ungetc(int c, void *to) { return ungetc(c, stream(to)); }

int *own___errno(void) { return &errno; }
int own_strerror_r(int number, char *into, size_t size) {
    const char *text = strerror(number);
    if (size) snprintf(into, size, "%s", text);
    return strlen(text) < size ? 0 : ERANGE;
}

/* Facts of the phone: Android 14. Without its number XNNPACK is silently left out. */
int own___system_property_get(const char *name, char *value) {
    strcpy(value, !strcmp(name, "ro.build.version.sdk") ? "34" : "");
    return (int)strlen(value);
}
int own_android_get_device_api_level(void) { return 34; }
long own_sysconf(int name) {
    switch (name) { /* bionic's numbers */
    case 39: case 40: return sysconf(_SC_PAGESIZE);
    case 96: return sysconf(_SC_NPROCESSORS_CONF);
    case 97: return sysconf(_SC_NPROCESSORS_ONLN);
    case 98: return sysconf(_SC_PHYS_PAGES);
    case 99: return sysconf(_SC_AVPHYS_PAGES);
    }
    fprintf(stderr, "the library asked bionic's sysconf(%d), which has no stand-in here; it is told that this is unknown\n", name);
    return -1;
}

/* The log. */
int own___android_log_write(int priority, const char *tag, const char *text) { return fprintf(stderr, "[log %d] %s: %s\n", priority, tag, text); }
int own___android_log_vprint(int priority, const char *tag, const char *format, va_list values) {
    char text[1024];
    vsnprintf(text, sizeof text, format, values);
    return own___android_log_write(priority, tag, text);
}
int own___android_log_print(int priority, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = own___android_log_vprint(priority, tag, format, values);
    va_end(values);
    return written;
}
int own___android_log_buf_write(int buffer, int priority, const char *tag, const char *text) { return (void)buffer, own___android_log_write(priority, tag, text); }
int own___android_log_is_loggable(int priority, const char *tag, int otherwise) { return (void)tag, priority >= otherwise; }
void own___android_log_assert(const char *condition, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    if (format) own___android_log_vprint(7, tag, format, values);
    else own___android_log_write(7, tag, condition ? condition : "assertion failed");
    abort();
}
void own_android_set_abort_message(const char *text) { fprintf(stderr, "abort message: %s\n", text); }
void own___assert2(const char *file, int line, const char *function, const char *what) {
    fprintf(stderr, "%s:%d: %s: assertion \"%s\" failed\n", file, line, function, what);
    abort();
}

/* Checked functions that glibc does not have: the compiler knew the size, and the check is not what is tested here. */
size_t own___strlen_chk(const char *text, size_t size) { return (void)size, strlen(text); }
char *own___strchr_chk(const char *text, int c, size_t size) { return (void)size, (char *)strchr(text, c); }
char *own___strrchr_chk(const char *text, int c, size_t size) { return (void)size, (char *)strrchr(text, c); }
ssize_t own___write_chk(int file, const void *from, size_t count, size_t size) { return (void)size, write(file, from, count); }
size_t own___fwrite_chk(const void *from, size_t size, size_t count, void *to, size_t room) { return (void)room, own_fwrite(from, size, count, to); }

/* Mutexes and conditions have other sizes, and static ones other first values (bionic: kind << 14): each is a number in the
   first word of the library's own memory, behind which stands one of glibc's. */
#define MARK 0x5a500000u
#define MOST (1u << 20)
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static void *made[MOST];
static unsigned made_count;

static void *behind(void *of, int is_mutex) {
    uint32_t *word = (uint32_t *)of;
    uint32_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    if ((value & 0xfff00000u) == MARK) return made[value & (MOST - 1)];
    pthread_mutex_lock(&making);
    value = *word;
    if ((value & 0xfff00000u) != MARK) {
        if (made_count == MOST) { fprintf(stderr, "the library made more than %u mutexes\n", MOST); abort(); }
        if (is_mutex) {
            pthread_mutex_t *mutex = (pthread_mutex_t *)malloc(sizeof *mutex);
            pthread_mutexattr_t kind;
            pthread_mutexattr_init(&kind);
            if (((value >> 14) & 3) == 1) pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
            pthread_mutex_init(mutex, &kind);
            made[made_count] = mutex;
        } else {
            pthread_cond_t *condition = (pthread_cond_t *)malloc(sizeof *condition);
            pthread_condattr_t clock;
            pthread_condattr_init(&clock);
            if (value & 2) pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
            pthread_cond_init(condition, &clock);
            made[made_count] = condition;
        }
        value = MARK | made_count++;
        __atomic_store_n(word, value, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&making);
    return made[value & (MOST - 1)];
}
#define MUTEX(of) ((pthread_mutex_t *)behind(of, 1))
#define CONDITION(of) ((pthread_cond_t *)behind(of, 0))

/* An attribute is a long: the kind of a mutex, the flags of a condition. */
int own_pthread_mutexattr_init(long *kind) { return *kind = 0, 0; }
int own_pthread_mutexattr_destroy(long *kind) { return (void)kind, 0; }
int own_pthread_mutexattr_settype(long *kind, int type) { return *kind = type, 0; }
int own_pthread_mutex_init(void *of, const long *kind) { return *(uint32_t *)of = kind ? (uint32_t)((*kind & 3) << 14) : 0, 0; }
int own_pthread_mutex_lock(void *of) { return pthread_mutex_lock(MUTEX(of)); }
int own_pthread_mutex_trylock(void *of) { return pthread_mutex_trylock(MUTEX(of)); }
int own_pthread_mutex_unlock(void *of) { return pthread_mutex_unlock(MUTEX(of)); }
int own_pthread_mutex_destroy(void *of) { return (void)of, 0; } /* its number is not used again */
int own_pthread_condattr_init(long *flags) { return *flags = 0, 0; }
int own_pthread_condattr_destroy(long *flags) { return (void)flags, 0; }
int own_pthread_condattr_setclock(long *flags, int clock) { return *flags = clock == CLOCK_MONOTONIC ? 2 : 0, 0; }
int own_pthread_cond_init(void *of, const long *flags) { return *(uint32_t *)of = flags ? (uint32_t)(*flags & 2) : 0, 0; }
int own_pthread_cond_destroy(void *of) { return (void)of, 0; }
int own_pthread_cond_signal(void *of) { return pthread_cond_signal(CONDITION(of)); }
int own_pthread_cond_broadcast(void *of) { return pthread_cond_broadcast(CONDITION(of)); }
int own_pthread_cond_wait(void *of, void *mutex) { return pthread_cond_wait(CONDITION(of), MUTEX(mutex)); }
int own_pthread_cond_timedwait(void *of, void *mutex, const struct timespec *until) { return pthread_cond_timedwait(CONDITION(of), MUTEX(mutex), until); }

#ifdef __cplusplus
}
#endif
