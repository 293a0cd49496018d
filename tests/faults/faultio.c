/* Calls that change files below one folder, made to fail, to be cut short, or to be the last thing a process does.

   Loaded by LD_PRELOAD, and idle until the process itself calls `fault_arm` (ctypes). Calls are counted from then on;
   those from number `nth` on, `count` of them, and of the wanted operations, meet the fault. What libc does inside
   itself (stdio) is not seen: a store writes by write and pwrite alone.

   gcc -shared -fPIC -O2 -Wall -o faultio.so faultio.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, OPEN = 8, UNLINK = 16, MKDIR = 32, TRUNCATE = 64, READ = 128 };
enum { NOTHING, FAIL, SHORT, DIE, CUT };

static char root[PATH_MAX], mount_point[PATH_MAX];
static size_t root_length;
static int lying, armed, wanted, mode, error_number, log_handle = -1;
static long nth, count, seen, met;

#define REAL(name)                      \
    static __typeof__(name) *real;      \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static ssize_t real_write(int handle, const void *data, size_t size) {
    REAL(write);
    return real(handle, data, size);
}

/* `mounted`: where the file system begins whose power is cut; `log`: a descriptor that gets a line a call, or -1. */
void fault_arm(const char *folder, const char *mounted, int operations, long first, long times, int how, int error, int log) {
    snprintf(root, sizeof root, "%s", folder);
    snprintf(mount_point, sizeof mount_point, "%s", mounted);
    root_length = strlen(root);
    wanted = operations, nth = first, count = times, mode = how, error_number = error, log_handle = log;
    seen = met = 0;
    armed = 1;
}

void fault_disarm(void) { armed = 0; }
/* From now on nothing below the folder is synced, and every sync says that it was: what a test must notice. */
void fault_lie(void) { lying = 1; }

long fault_seen(void) { return seen; }
long fault_met(void) { return met; }

/* The power of the file system goes, and with it this process. */
void fault_cut(void) {
    REAL(open64);
    unsigned int no_log_flush = 2;
    int handle = real(mount_point, O_RDONLY);
    ioctl(handle, 0x8004587d, &no_log_flush); /* FS_IOC_SHUTDOWN */
    kill(getpid(), SIGKILL);
}

/* Whether this call meets the fault; 0: go on as usual. The caller handles SHORT where it has a meaning. */
static int hit(int operation, const char *name, const char *path) {
    if (!armed || strncmp(path, root, root_length)) return NOTHING;
    if (!(operation & wanted)) return NOTHING;
    long here = __sync_fetch_and_add(&seen, 1);
    if (log_handle >= 0) {
        char line[PATH_MAX + 32];
        const char *last = strrchr(path, '/');
        int size = snprintf(line, sizeof line, "%s %s\n", name, last && path[root_length] ? last + 1 : ".");
        if (real_write(log_handle, line, size) < 0) abort();
    }
    if (here < nth || here >= nth + count) return NOTHING;
    __sync_fetch_and_add(&met, 1);
    if (mode == CUT) fault_cut();
    if (mode == DIE) kill(getpid(), SIGKILL);
    errno = error_number;
    return mode;
}

static int hit_handle(int operation, const char *name, int handle) {
    if (!armed || !(operation & wanted)) return NOTHING;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return NOTHING;
    path[size] = 0;
    return hit(operation, name, path);
}

static int hit_path(int operation, const char *name, int folder, const char *path) {
    if (!armed || !(operation & wanted)) return NOTHING;
    if (path[0] == '/') return hit(operation, name, path);
    char link[64], whole[PATH_MAX * 2];
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, whole, PATH_MAX - 1);
    if (size < 0) return NOTHING;
    snprintf(whole + size, PATH_MAX, "/%s", path);
    return hit(operation, name, whole);
}

#define WRITES(name, signature, arguments, shorter)                      \
    ssize_t name signature {                                             \
        REAL(name);                               \
        switch (hit_handle(WRITE, "write", handle)) {                    \
            case FAIL: return -1;                                        \
            case SHORT: if (size > 1) return real shorter;               \
        }                                                                \
        return real arguments;                                           \
    }
WRITES(write, (int handle, const void *data, size_t size), (handle, data, size), (handle, data, size / 2))
WRITES(pwrite, (int handle, const void *data, size_t size, off_t at), (handle, data, size, at), (handle, data, size / 2, at))
WRITES(pwrite64, (int handle, const void *data, size_t size, off64_t at), (handle, data, size, at), (handle, data, size / 2, at))

#define SYNCS(name)                                                      \
    int name(int handle) {                                               \
        REAL(name);                                       \
        if (hit_handle(SYNC, "sync", handle) == FAIL) return -1;         \
        return lying ? 0 : real(handle);                                 \
    }
SYNCS(fsync)
SYNCS(fdatasync)

#define CALL(name, operation, word, signature, arguments, where)         \
    int name signature {                                                 \
        REAL(name);                                  \
        if (where(operation, word) == FAIL) return -1;                   \
        return real arguments;                                           \
    }
#define TARGET(operation, word) hit_path(operation, word, AT_FDCWD, to)
#define TARGET_AT(operation, word) hit_path(operation, word, to_folder, to)
#define PATH(operation, word) hit_path(operation, word, AT_FDCWD, path)
#define PATH_AT(operation, word) hit_path(operation, word, folder, path)
#define HANDLE(operation, word) hit_handle(operation, word, handle)
CALL(rename, RENAME, "rename", (const char *from, const char *to), (from, to), TARGET)
CALL(renameat, RENAME, "rename", (int folder, const char *from, int to_folder, const char *to), (folder, from, to_folder, to), TARGET_AT)
CALL(renameat2, RENAME, "rename", (int folder, const char *from, int to_folder, const char *to, unsigned flags), (folder, from, to_folder, to, flags), TARGET_AT)
CALL(link, RENAME, "link", (const char *from, const char *to), (from, to), TARGET)
CALL(unlink, UNLINK, "unlink", (const char *path), (path), PATH)
CALL(unlinkat, UNLINK, "unlink", (int folder, const char *path, int flags), (folder, path, flags), PATH_AT)
CALL(rmdir, UNLINK, "rmdir", (const char *path), (path), PATH)
CALL(mkdir, MKDIR, "mkdir", (const char *path, mode_t rights), (path, rights), PATH)
CALL(ftruncate, TRUNCATE, "truncate", (int handle, off_t size), (handle, size), HANDLE)
CALL(ftruncate64, TRUNCATE, "truncate", (int handle, off64_t size), (handle, size), HANDLE)
CALL(fallocate, TRUNCATE, "allocate", (int handle, int how, off_t at, off_t size), (handle, how, at, size), HANDLE)
CALL(fallocate64, TRUNCATE, "allocate", (int handle, int how, off64_t at, off64_t size), (handle, how, at, size), HANDLE)

static int opens(int flags) { return flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC) ? OPEN : READ; }

#define OPENS(name)                                                      \
    int name(const char *path, int flags, ...) {                         \
        REAL(name);                    \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t rights = va_arg(rest, mode_t);                            \
        va_end(rest);                                                    \
        int operation = opens(flags);                                    \
        if (hit_path(operation, operation == OPEN ? "open" : "read", AT_FDCWD, path) == FAIL) return -1; \
        return real(path, flags, rights);                                \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                   \
    int name(int folder, const char *path, int flags, ...) {             \
        REAL(name);               \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t rights = va_arg(rest, mode_t);                            \
        va_end(rest);                                                    \
        int operation = opens(flags);                                    \
        if (hit_path(operation, operation == OPEN ? "open" : "read", folder, path) == FAIL) return -1; \
        return real(folder, path, flags, rights);                        \
    }
OPENS_AT(openat)
OPENS_AT(openat64)
