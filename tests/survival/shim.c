/* Faults of a file system, for tests: a library that LD_PRELOAD puts before the C library.
 *
 * SHIM_ROOT    folder below which calls are counted and may fail
 * SHIM_CALLS   names of the calls that count, separated by commas
 * SHIM_AT      number of the first call that fails, from 1; 0 for none
 * SHIM_TIMES   number of calls that fail; 0 for all from the first one on
 * SHIM_ERROR   errno of a failing call; 0 for a write of half of the bytes
 * SHIM_COUNT   file that receives the number of counted calls at the end
 * SHIM_NO_LOCKS  if set, flock fails with ENOLCK
 * SHIM_STALE     if set, the process sees the folder as a client of a network file system that caches
 *                for this many milliseconds: names that others create are not listed yet, names that
 *                were missing stay missing, and stat repeats its last answer. Opening a folder renews
 *                what is known of its names, opening or writing a file what is known of the file.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long counted;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long number(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static int is_listed(const char *call) {
  const char *list = getenv("SHIM_CALLS");
  size_t length = strlen(call);
  while (list && *list) {
    const char *end = strchrnul(list, ',');
    if ((size_t)(end - list) == length && strncmp(list, call, length) == 0) return 1;
    list = *end ? end + 1 : end;
  }
  return 0;
}

static int is_below(const char *path) {
  const char *root = getenv("SHIM_ROOT");
  if (!root || !path) return 0;
  char full[8192];
  if (path[0] != '/') {
    if (!getcwd(full, sizeof full / 2)) return 0;
    strncat(full, "/", 2);
    strncat(full, path, sizeof full / 2 - 2);
    path = full;
  }
  return strncmp(path, root, strlen(root)) == 0;
}

static int is_fd_below(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  /* Pipes and sockets have names without a slash. */
  return path[0] == '/' && is_below(path);
}

/* Returns 1 if this call fails; errno is then set, unless the fault is a short write. */
static int fails(const char *call, int below) {
  if (!below || !is_listed(call)) return 0;
  long now = atomic_fetch_add(&counted, 1) + 1, at = number("SHIM_AT"), times = number("SHIM_TIMES");
  if (at == 0 || now < at || (times && now >= at + times)) return 0;
  errno = (int)number("SHIM_ERROR");
  return 1;
}

__attribute__((destructor)) static void report(void) {
  const char *file = getenv("SHIM_COUNT");
  if (!file) return;
  int fd = NEXT(open)(file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd >= 0) {
    dprintf(fd, "%ld\n", (long)counted);
    close(fd);
  }
}

/* What a client remembers of a file: that it was missing, or its attributes. */
struct memory {
  char path[512];
  struct timespec since;
  int missing;
  struct statx attributes;
};
static struct memory memories[1024];
static int oldest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long milliseconds_since(const struct timespec *then) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (now.tv_sec - then->tv_sec) * 1000 + (now.tv_nsec - then->tv_nsec) / 1000000;
}

static int remembers(const char *path) { return path && getenv("SHIM_STALE") && path[0] == '/' && is_below(path) && strlen(path) < 512; }

/* Finds what is remembered of a path and still believed; the caller holds the lock. */
static struct memory *find(const char *path) {
  for (int index = 0; index < 1024; index++) {
    struct memory *memory = &memories[index];
    if (strcmp(memory->path, path) == 0)
      return milliseconds_since(&memory->since) < number("SHIM_STALE") ? memory : NULL;
  }
  return NULL;
}

static void remember(const char *path, int missing, const struct statx *attributes) {
  pthread_mutex_lock(&lock);
  if (!find(path)) {
    struct memory *memory = &memories[oldest++ % 1024];
    strcpy(memory->path, path);
    clock_gettime(CLOCK_MONOTONIC, &memory->since);
    memory->missing = missing;
    if (attributes) memory->attributes = *attributes;
  }
  pthread_mutex_unlock(&lock);
}

/* Forgets a path, or all names in a folder. */
static void forget(const char *path, int names) {
  if (!remembers(path)) return;
  size_t length = strlen(path);
  while (names && length > 1 && path[length - 1] == '/') length--;
  pthread_mutex_lock(&lock);
  for (int index = 0; index < 1024; index++) {
    struct memory *memory = &memories[index];
    int is_name = strncmp(memory->path, path, length) == 0 && memory->path[length] == '/' && !strchr(memory->path + length + 1, '/');
    if (names ? is_name : strcmp(memory->path, path) == 0) memory->path[0] = 0;
  }
  pthread_mutex_unlock(&lock);
}

static int is_believed_missing(const char *path) {
  if (!remembers(path)) return 0;
  pthread_mutex_lock(&lock);
  struct memory *memory = find(path);
  int missing = memory && memory->missing;
  pthread_mutex_unlock(&lock);
  return missing;
}

#define OPEN(name)                                                             \
  int name(const char *path, int flags, ...) {                                 \
    va_list arguments;                                                         \
    va_start(arguments, flags);                                                \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(arguments, mode_t) : 0; \
    va_end(arguments);                                                         \
    if ((flags & O_CREAT) && fails("open", is_below(path))) return -1;         \
    if (!(flags & O_CREAT) && is_believed_missing(path)) {                     \
      errno = ENOENT;                                                          \
      return -1;                                                               \
    }                                                                          \
    forget(path, 0);                                                           \
    int fd = NEXT(name)(path, flags, mode);                                    \
    if (fd < 0 && errno == ENOENT && remembers(path)) {                        \
      remember(path, 1, NULL);                                                 \
      errno = ENOENT;                                                          \
    }                                                                          \
    return fd;                                                                 \
  }
OPEN(open)
OPEN(open64)

DIR *opendir(const char *path) {
  forget(path, 1);
  forget(path, 0);
  return NEXT(opendir)(path);
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *found) {
  if (!remembers(path)) return NEXT(statx)(folder, path, flags, mask, found);
  pthread_mutex_lock(&lock);
  struct memory *memory = find(path);
  int missing = memory && memory->missing;
  if (memory && !missing) *found = memory->attributes;
  pthread_mutex_unlock(&lock);
  if (missing) errno = ENOENT;
  if (memory) return missing ? -1 : 0;
  int result = NEXT(statx)(folder, path, flags, mask, found);
  if (result == 0 || errno == ENOENT) {
    int error = errno;
    remember(path, result != 0, result == 0 ? found : NULL);
    errno = error;
  }
  return result;
}

int unlink(const char *path) {
  forget(path, 0);
  return NEXT(unlink)(path);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  if (getenv("SHIM_STALE")) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0 && path[0] == '/') {
      path[length] = 0;
      forget(path, 0);
    }
  }
  if (count > 0 && fails("write", is_fd_below(fd))) {
    if (errno) return -1;
    return NEXT(write)(fd, bytes, count > 1 ? count / 2 : 1);
  }
  return NEXT(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (fails("write", is_fd_below(fd))) {
    if (errno) return -1;
    return NEXT(writev)(fd, parts, 1);
  }
  return NEXT(writev)(fd, parts, count);
}

int fsync(int fd) { return fails("fsync", is_fd_below(fd)) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails("fsync", is_fd_below(fd)) ? -1 : NEXT(fdatasync)(fd); }
int rename(const char *from, const char *to) {
  forget(from, 0);
  forget(to, 0);
  return fails("rename", is_below(to)) ? -1 : NEXT(rename)(from, to);
}
int mkdir(const char *path, mode_t mode) {
  forget(path, 0);
  return fails("mkdir", is_below(path)) ? -1 : NEXT(mkdir)(path, mode);
}
int link(const char *from, const char *to) {
  forget(to, 0);
  return fails("link", is_below(to)) ? -1 : NEXT(link)(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
  forget(from, 0);
  forget(to, 0);
  return fails("link", is_below(to)) ? -1 : NEXT(linkat)(a, from, b, to, flags);
}
int ftruncate64(int fd, off64_t length) {
  return fails("truncate", is_fd_below(fd)) ? -1 : NEXT(ftruncate64)(fd, length);
}

int flock(int fd, int operation) {
  if (getenv("SHIM_NO_LOCKS") && is_fd_below(fd)) {
    errno = ENOLCK;
    return -1;
  }
  return NEXT(flock)(fd, operation);
}

/* Stale names: an entry that appeared or changed within the last SHIM_STALE milliseconds is not
 * listed yet, as by a client that caches a folder's entries. Own entries are always seen. */
static int is_fresh(int folder, const char *name) {
  struct stat found;
  struct timespec now;
  if (NEXT(fstatat)(folder, name, &found, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  clock_gettime(CLOCK_REALTIME, &now);
  long age = (now.tv_sec - found.st_ctim.tv_sec) * 1000 + (now.tv_nsec - found.st_ctim.tv_nsec) / 1000000;
  return age < number("SHIM_STALE");
}

struct dirent64 *readdir64(DIR *stream) {
  struct dirent64 *entry;
  for (;;) {
    entry = NEXT(readdir64)(stream);
    if (!entry || !getenv("SHIM_STALE") || !is_fd_below(dirfd(stream))) return entry;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) return entry;
    if (!is_fresh(dirfd(stream), entry->d_name)) return entry;
    /* The creator of an entry sees it: its process is named in the file. */
    char pid[32], text[512];
    snprintf(pid, sizeof pid, "\"pid\":%d,", (int)getpid());
    int fd = NEXT(openat)(dirfd(stream), entry->d_name, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (length > 0) {
      text[length] = 0;
      if (strstr(text, pid)) return entry;
    }
  }
}
