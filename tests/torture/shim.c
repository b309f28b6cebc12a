/* Counts what a process writes below one folder, and at one of these calls disturbs the run.

   Preloaded (LD_PRELOAD) into a run and its children, which share one count. Told by environment variables:

   TORTURE_FOLDER  only calls on files below it count
   TORTURE_STATE   a file of 64 bytes that holds the count of all processes
   TORTURE_LOG     a line for each call: number, process, "hit" or "-", name of the call, file
   TORTURE_AT      at which call to act; 0 never
   TORTURE_ACTION  fail: with the error TORTURE_VALUE; fail-on: so does every later call (of ENOSPC: that needs space);
                   signal: send the signal TORTURE_VALUE; clock: from then on the clock is TORTURE_VALUE seconds off
   TORTURE_WHOM    who gets the signal: self, leader (of the process group) or group
   TORTURE_TIMES   at how many calls, one after the other, to act */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct { atomic_long calls; } *shared; /* NULL: nothing is counted */
static char folder[PATH_MAX], log_name[PATH_MAX];
static size_t folder_length;
static long first, times, value;
static enum { NOTHING, FAIL, FAIL_ON, SIGNAL, CLOCK } action;
static enum { SELF, LEADER, GROUP } whom;

static const char *setting(const char *name) {
    const char *found = getenv(name);
    return found ? found : "";
}

/* Read the variables again: a process that was forked by another is told in this way. */
void torture_arm(void) {
    const char *state = setting("TORTURE_STATE"), *what = setting("TORTURE_ACTION"), *to = setting("TORTURE_WHOM");
    shared = NULL;
    if (!*state) return;
    snprintf(folder, sizeof folder, "%s", setting("TORTURE_FOLDER"));
    folder_length = strlen(folder);
    snprintf(log_name, sizeof log_name, "%s", setting("TORTURE_LOG"));
    first = atol(setting("TORTURE_AT"));
    times = *setting("TORTURE_TIMES") ? atol(setting("TORTURE_TIMES")) : 1;
    value = atol(setting("TORTURE_VALUE"));
    action = !strcmp(what, "fail") ? FAIL : !strcmp(what, "fail-on") ? FAIL_ON : !strcmp(what, "signal") ? SIGNAL
             : !strcmp(what, "clock") ? CLOCK : NOTHING;
    whom = !strcmp(to, "leader") ? LEADER : !strcmp(to, "group") ? GROUP : SELF;
    int file = syscall(SYS_openat, AT_FDCWD, state, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *map = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (map != MAP_FAILED) shared = map;
}

__attribute__((constructor)) static void start(void) { torture_arm(); }

static void note(long number, int is_hit, const char *call, const char *path) {
    char line[PATH_MAX + 64];
    if (!*log_name) return;
    int length = snprintf(line, sizeof line, "%ld %d %s %s %s\n", number, (int)getpid(), is_hit ? "hit" : "-", call,
                          path + folder_length + (path[folder_length] == '/'));
    int file = syscall(SYS_openat, AT_FDCWD, log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) return;
    syscall(SYS_write, file, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
    syscall(SYS_close, file);
}

static void send_signal(void) {
    pid_t target = whom == SELF ? getpid() : whom == LEADER ? getpgrp() : 0;
    syscall(SYS_kill, target, (int)value);
    while (value == SIGKILL && whom != LEADER) pause();
}

/* Count a call; the error that it is to fail with, or 0. `path` is NULL where it is not known. */
static int strike(const char *call, const char *path, int takes_space) {
    if (!shared || !path || strncmp(path, folder, folder_length) ||
        (path[folder_length] && path[folder_length] != '/'))
        return 0;
    int before = errno;
    long number = atomic_fetch_add(&shared->calls, 1) + 1;
    int is_now = first && number >= first && number < first + times;
    int is_after = first && number >= first && action == FAIL_ON && (value != ENOSPC || takes_space);
    int is_hit = action == FAIL_ON ? is_after : is_now && action != NOTHING;
    note(number, is_hit, call, path);
    if (is_hit && action == SIGNAL) send_signal();
    errno = before;
    return is_hit && (action == FAIL || action == FAIL_ON) ? (int)value : 0;
}

static const char *of_descriptor(int descriptor, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, size - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

static const char *of_name(int directory, const char *name, char *buffer, size_t size) {
    if (!name) return NULL;
    if (*name == '/') return name;
    if (directory == AT_FDCWD ? syscall(SYS_getcwd, buffer, size) < 0 : !of_descriptor(directory, buffer, size))
        return NULL;
    size_t length = strlen(buffer);
    snprintf(buffer + length, size - length, "/%s", name);
    return buffer;
}

static int struck(const char *call, const char *path, int takes_space) {
    int before = errno, error = shared ? strike(call, path, takes_space) : 0;
    errno = error ? error : before;
    return error != 0;
}

#define ON_NAME(call, directory, name, takes_space) do { \
        char buffer[2 * PATH_MAX]; \
        if (shared && struck(call, of_name(directory, name, buffer, sizeof buffer), takes_space)) return -1; \
    } while (0)
#define ON_DESCRIPTOR(call, descriptor, takes_space) do { \
        char buffer[PATH_MAX]; int kept = errno; \
        const char *path = shared ? of_descriptor(descriptor, buffer, sizeof buffer) : NULL; \
        errno = kept; \
        if (path && struck(call, path, takes_space)) return -1; \
    } while (0)

/* ---- files that are opened to be written ---- */

static int opened(const char *call, int directory, const char *name, int flags, mode_t mode) {
    if ((flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC))
        ON_NAME(call, directory, name, flags & O_CREAT);
    return syscall(SYS_openat, directory, name, flags, mode);
}

#define MODE_OF(flags) mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }

int open(const char *name, int flags, ...) { MODE_OF(flags) return opened("open", AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags) return opened("open", AT_FDCWD, name, flags, mode); }
int openat(int d, const char *name, int flags, ...) { MODE_OF(flags) return opened("open", d, name, flags, mode); }
int openat64(int d, const char *name, int flags, ...) { MODE_OF(flags) return opened("open", d, name, flags, mode); }
int __open_2(const char *name, int flags) { return opened("open", AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { return opened("open", AT_FDCWD, name, flags, 0); }
int __openat_2(int d, const char *name, int flags) { return opened("open", d, name, flags, 0); }
int creat(const char *name, mode_t mode) {
    return opened("open", AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* ---- bytes ---- */

ssize_t write(int d, const void *data, size_t n) { ON_DESCRIPTOR("write", d, 1); return syscall(SYS_write, d, data, n); }
ssize_t writev(int d, const struct iovec *v, int n) { ON_DESCRIPTOR("write", d, 1); return syscall(SYS_writev, d, v, n); }
ssize_t pwrite(int d, const void *data, size_t n, off_t at) {
    ON_DESCRIPTOR("write", d, 1);
    return syscall(SYS_pwrite64, d, data, n, at);
}
ssize_t pwrite64(int d, const void *data, size_t n, off64_t at) { return pwrite(d, data, n, at); }
int fsync(int d) { ON_DESCRIPTOR("fsync", d, 0); return syscall(SYS_fsync, d); }
int fdatasync(int d) { ON_DESCRIPTOR("fsync", d, 0); return syscall(SYS_fdatasync, d); }
int ftruncate(int d, off_t n) { ON_DESCRIPTOR("truncate", d, 1); return syscall(SYS_ftruncate, d, n); }
int ftruncate64(int d, off64_t n) { ON_DESCRIPTOR("truncate", d, 1); return syscall(SYS_ftruncate, d, n); }

static int allocated(int d, int mode, off_t from, off_t n) {
    ON_DESCRIPTOR("allocate", d, 1);
    return syscall(SYS_fallocate, d, mode, from, n);
}
int fallocate(int d, int mode, off_t from, off_t n) { return allocated(d, mode, from, n); }
int fallocate64(int d, int mode, off64_t from, off64_t n) { return allocated(d, mode, from, n); }
int posix_fallocate(int d, off_t from, off_t n) { return allocated(d, 0, from, n) ? errno : 0; }
int posix_fallocate64(int d, off64_t from, off64_t n) { return allocated(d, 0, from, n) ? errno : 0; }

/* ---- names ---- */

static int renamed(int d, const char *old, int e, const char *new, unsigned flags) {
    ON_NAME("rename", e, new, 1);
    return syscall(SYS_renameat2, d, old, e, new, flags);
}
int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int d, const char *old, int e, const char *new) { return renamed(d, old, e, new, 0); }
int renameat2(int d, const char *old, int e, const char *new, unsigned flags) { return renamed(d, old, e, new, flags); }

static int linked(int d, const char *old, int e, const char *new, int flags) {
    ON_NAME("link", e, new, 1);
    return syscall(SYS_linkat, d, old, e, new, flags);
}
int link(const char *old, const char *new) { return linked(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int d, const char *old, int e, const char *new, int flags) { return linked(d, old, e, new, flags); }

static int made(int d, const char *name, mode_t mode) {
    ON_NAME("mkdir", d, name, 1);
    return syscall(SYS_mkdirat, d, name, mode);
}
int mkdir(const char *name, mode_t mode) { return made(AT_FDCWD, name, mode); }
int mkdirat(int d, const char *name, mode_t mode) { return made(d, name, mode); }

static int removed(int d, const char *name, int flags) {
    ON_NAME(flags & AT_REMOVEDIR ? "rmdir" : "unlink", d, name, 0);
    return syscall(SYS_unlinkat, d, name, flags);
}
int unlink(const char *name) { return removed(AT_FDCWD, name, 0); }
int unlinkat(int d, const char *name, int flags) { return removed(d, name, flags); }
int rmdir(const char *name) { return removed(AT_FDCWD, name, AT_REMOVEDIR); }

/* ---- the clock ---- */

static time_t shift(void) {
    return shared && action == CLOCK && first && atomic_load(&shared->calls) >= first ? value : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
