/* Preloaded into a process: makes the n-th system call on the watched files fail, and records the
 * calls that change files, so that a test can compute what a power failure leaves behind.
 *
 * A file is watched if its path begins with the prefix that shim_watch() sets. Everything else
 * passes through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILES 4096
enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, RESIZE = 16, UNLINK = 32, MAP = 64, LOCK = 128 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char prefix[4096];
static size_t prefix_length;
static uint64_t inodes[MAX_FILES]; /* of each descriptor; 0 if it is not watched */

/* --- failing ------------------------------------------------------------------------------- */

static long calls, nth;
static int kinds, error_number, is_sticky, is_short;

void shim_watch(const char *path) {
    strncpy(prefix, path, sizeof prefix - 1);
    prefix_length = strlen(prefix);
}

/* Fail the nth call of these kinds from now on, and all later ones if sticky. With cut, a write
 * writes the half of its bytes instead. */
void shim_fail(long number, int of_kinds, int with_error, int sticky, int cut) {
    pthread_mutex_lock(&mutex);
    calls = 0, nth = number, kinds = of_kinds, error_number = with_error;
    is_sticky = sticky, is_short = cut;
    pthread_mutex_unlock(&mutex);
}

/* Fail no more. The number of calls since shim_fail(). */
long shim_pass(void) {
    pthread_mutex_lock(&mutex);
    nth = 0;
    long seen = calls;
    pthread_mutex_unlock(&mutex);
    return seen;
}

static int fails(int kind) {
    if (!nth || !(kinds & kind)) return 0;
    calls += 1;
    return calls == nth || (is_sticky && calls > nth);
}

/* --- recording ----------------------------------------------------------------------------- */

static int recording = -1;

struct record { /* as RECORD in trace.py reads it */
    uint32_t kind, length;
    uint64_t inode, offset;
};

static ssize_t real_write(int fd, const void *data, size_t size);

static void record(uint32_t kind, uint64_t inode, uint64_t offset, const void *data, size_t size) {
    if (recording < 0) return;
    struct record it = {kind, (uint32_t)size, inode, offset};
    real_write(recording, &it, sizeof it);
    if (size) real_write(recording, data, size);
}

enum { R_WRITE = 1, R_RESIZE, R_SYNC, R_CREATE, R_UNLINK, R_MARK };

static int (*next_open)(const char *, int, ...);

void shim_record(const char *path) {
    if (!next_open) next_open = dlsym(RTLD_NEXT, "open64");
    recording = next_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void shim_mark(const char *text) {
    pthread_mutex_lock(&mutex);
    record(R_MARK, 0, 0, text, strlen(text));
    pthread_mutex_unlock(&mutex);
}

/* --- the clock that an administrator can set --------------------------------------------------- */

static long clock_step;

void shim_step_clock(long seconds) { clock_step = seconds; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(clock_gettime) *next;
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += clock_step;
    return result;
}

/* --- the calls ----------------------------------------------------------------------------- */

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = dlsym(RTLD_NEXT, #name);
#define WATCHED(fd) ((fd) >= 0 && (fd) < MAX_FILES && inodes[fd])
#define ENTER pthread_mutex_lock(&mutex)
#define LEAVE(result) do { int saved = errno; pthread_mutex_unlock(&mutex); errno = saved; return result; } while (0)
#define FAIL_IF(kind, result) if (fails(kind)) { errno = error_number; LEAVE(result); }

static ssize_t real_write(int fd, const void *data, size_t size) {
    NEXT(write);
    return next(fd, data, size);
}

static int is_watched_path(const char *path) {
    return prefix_length && !strncmp(path, prefix, prefix_length);
}

static int watched_open(const char *path, int flags, mode_t mode) {
    if (!next_open) next_open = dlsym(RTLD_NEXT, "open64");
    if (!is_watched_path(path)) return next_open(path, flags, mode);
    ENTER;
    FAIL_IF(OPEN, -1);
    int is_new = (flags & O_CREAT) && access(path, F_OK);
    int fd = next_open(path, flags, mode);
    struct stat found;
    if (fd >= 0 && fd < MAX_FILES && !fstat(fd, &found)) {
        inodes[fd] = found.st_ino;
        if (is_new) record(R_CREATE, found.st_ino, 0, path, strlen(path));
    }
    LEAVE(fd);
}

#define MODE va_list rest; va_start(rest, flags); mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest)
int open(const char *path, int flags, ...) { MODE; return watched_open(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE; return watched_open(path, flags, mode); }

int mknod(const char *path, mode_t mode, dev_t device) {
    NEXT(mknod);
    if (!is_watched_path(path)) return next(path, mode, device);
    ENTER;
    FAIL_IF(OPEN, -1);
    int result = next(path, mode, device);
    struct stat found;
    if (!result && !stat(path, &found)) record(R_CREATE, found.st_ino, 0, path, strlen(path));
    LEAVE(result);
}

int close(int fd) {
    NEXT(close);
    if (fd >= 0 && fd < MAX_FILES) inodes[fd] = 0;
    return next(fd);
}

static ssize_t watched_write(int fd, const void *data, size_t size, off64_t offset) {
    NEXT(pwrite64);
    if (!WATCHED(fd)) return next(fd, data, size, offset);
    ENTER;
    if (fails(WRITE)) {
        if (!is_short) { errno = error_number; LEAVE(-1); }
        size = size > 1 ? size / 2 : size;
    }
    ssize_t written = next(fd, data, size, offset);
    if (written > 0) record(R_WRITE, inodes[fd], offset, data, written);
    LEAVE(written);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return watched_write(fd, data, size, at); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return watched_write(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
    if (!WATCHED(fd)) return real_write(fd, data, size);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t written = watched_write(fd, data, size, at);
    if (written > 0) lseek64(fd, written, SEEK_CUR);
    return written;
}

static ssize_t watched_read(int fd, void *data, size_t size, off64_t offset) {
    NEXT(pread64);
    if (WATCHED(fd)) {
        ENTER;
        FAIL_IF(READ, -1);
        pthread_mutex_unlock(&mutex);
    }
    return next(fd, data, size, offset);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) { return watched_read(fd, data, size, at); }
ssize_t pread(int fd, void *data, size_t size, off_t at) { return watched_read(fd, data, size, at); }

static int watched_sync(int fd, int (*next)(int)) {
    if (!WATCHED(fd)) return next(fd);
    ENTER;
    FAIL_IF(SYNC, -1);
    int result = next(fd);
    if (!result) record(R_SYNC, inodes[fd], 0, "", 0);
    LEAVE(result);
}

int fsync(int fd) { NEXT(fsync); return watched_sync(fd, next); }
int fdatasync(int fd) { NEXT(fdatasync); return watched_sync(fd, next); }

static int watched_resize(int fd, off64_t size) {
    NEXT(ftruncate64);
    if (!WATCHED(fd)) return next(fd, size);
    ENTER;
    FAIL_IF(RESIZE, -1);
    int result = next(fd, size);
    if (!result) record(R_RESIZE, inodes[fd], size, "", 0);
    LEAVE(result);
}

int ftruncate64(int fd, off64_t size) { return watched_resize(fd, size); }
int ftruncate(int fd, off_t size) { return watched_resize(fd, size); }

int unlink(const char *path) {
    NEXT(unlink);
    if (!is_watched_path(path)) return next(path);
    ENTER;
    FAIL_IF(UNLINK, -1);
    int result = next(path);
    if (!result) record(R_UNLINK, 0, 0, path, strlen(path));
    LEAVE(result);
}

static void *watched_map(void *at, size_t size, int access, int flags, int fd, off64_t offset) {
    NEXT(mmap64);
    if (WATCHED(fd)) {
        ENTER;
        FAIL_IF(MAP, MAP_FAILED);
        pthread_mutex_unlock(&mutex);
    }
    return next(at, size, access, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int access, int flags, int fd, off64_t offset) { return watched_map(at, size, access, flags, fd, offset); }
void *mmap(void *at, size_t size, int access, int flags, int fd, off_t offset) { return watched_map(at, size, access, flags, fd, offset); }

static int watched_lock(int fd, int command, void *argument) {
    static int (*next)(int, int, ...);
    if (!next) next = dlsym(RTLD_NEXT, "fcntl64");
    struct flock *lock = argument;
    /* SQLite ignores a failed unlock: no call can fail that way. */
    if (command == F_SETLK && WATCHED(fd) && lock->l_type != F_UNLCK) {
        ENTER;
        FAIL_IF(LOCK, -1);
        pthread_mutex_unlock(&mutex);
    }
    return next(fd, command, argument);
}

#define ARGUMENT va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest)
int fcntl64(int fd, int command, ...) { ARGUMENT; return watched_lock(fd, command, argument); }
int fcntl(int fd, int command, ...) { ARGUMENT; return watched_lock(fd, command, argument); }
