/* Power loss for tests, by LD_PRELOAD: keeps in PLSIM_SHADOW a copy of PLSIM_DIR that holds only what the program has made
 * durable by fsync or fdatasync. Kill the program, put the copy in the directory's place, and the machine has lost power.
 *
 *   cc -shared -fPIC -O2 -o plsim.so plsim.c -ldl -lpthread
 *
 *   PLSIM_KEEP=p   each unsynced write reaches the copy at once with a probability of p percent, as a kernel may do
 *   PLSIM_SEED=n   for those
 *   PLSIM_LIE=1    syncs change nothing in the copy: a disk that lies, to show that a test notices
 *
 * What it is not: directory entries are durable at once (creation, rename, removal), so a missing fsync of a directory
 * does not show. Writes are kept or lost whole, never torn. It sees open, write, pwrite, ftruncate, rename, unlink and
 * mkdir of this one process; not mmap, writev, pwritev, fallocate or descriptors from 4096 on. sync_file_range is no sync.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS 4096
#define PATH 1100

enum kind { WRITE, TRUNCATE };

/* A change that is not durable yet. */
typedef struct change {
    enum kind kind;
    off_t at;
    size_t size;
    char *data;
    struct change *next;
} change;

typedef struct file {
    char name[512]; /* below the directory */
    change *first, *last;
    int copy; /* descriptor of the copy, or -1 */
    struct file *next;
} file;

static file *files;
static file *by_fd[FDS];
static char root[512], shadow[512];
static size_t root_size;
static int keep, lie;
static unsigned seed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_close)(int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_close = dlsym(RTLD_NEXT, "close");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    const char *dir = getenv("PLSIM_DIR"), *copy = getenv("PLSIM_SHADOW");
    if (dir && copy) {
        snprintf(root, sizeof root, "%s", dir);
        snprintf(shadow, sizeof shadow, "%s", copy);
        root_size = strlen(root);
    }
    if (getenv("PLSIM_KEEP")) keep = atoi(getenv("PLSIM_KEEP"));
    if (getenv("PLSIM_SEED")) seed = atoi(getenv("PLSIM_SEED")) * 7919u + 13;
    if (getenv("PLSIM_LIE")) lie = atoi(getenv("PLSIM_LIE"));
}

static const char *below(const char *path) {
    if (!root_size || strncmp(path, root, root_size) || path[root_size] != '/') return NULL;
    return path + root_size + 1;
}

static void copy_path(char *out, const char *name) { snprintf(out, PATH, "%s/%s", shadow, name); }

static file *find(const char *name) {
    for (file *f = files; f; f = f->next)
        if (!strcmp(f->name, name)) return f;
    file *f = calloc(1, sizeof *f);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->copy = -1;
    f->next = files;
    return files = f;
}

static void open_copy(file *f) {
    if (f->copy >= 0) return;
    char path[PATH];
    copy_path(path, f->name);
    f->copy = real_open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
}

static void close_copy(file *f) {
    if (f->copy >= 0) real_close(f->copy);
    f->copy = -1;
}

static void forget(file *f) {
    for (change *c = f->first; c;) {
        change *next = c->next;
        free(c->data);
        free(c);
        c = next;
    }
    f->first = f->last = NULL;
}

/* A copy that cannot be kept would make the test pass or fail for no reason. */
static void must(int ok) {
    if (!ok) {
        perror("plsim");
        abort();
    }
}

static void make_durable(file *f) {
    open_copy(f);
    for (change *c = f->first; c; c = c->next) {
        if (c->kind == WRITE)
            must(real_pwrite(f->copy, c->data, c->size, c->at) == (ssize_t)c->size);
        else
            must(!real_ftruncate(f->copy, c->at));
    }
    forget(f);
}

static void note(file *f, enum kind kind, off_t at, const void *data, size_t size) {
    change *c = calloc(1, sizeof *c);
    c->kind = kind;
    c->at = at;
    c->size = size;
    if (kind == WRITE) {
        c->data = malloc(size);
        memcpy(c->data, data, size);
    }
    if (f->last)
        f->last->next = c;
    else
        f->first = c;
    f->last = c;
    if (kind == WRITE && (int)(rand_r(&seed) % 100) < keep) {
        open_copy(f);
        must(real_pwrite(f->copy, data, size, at) == (ssize_t)size);
    }
}

static file *of(int fd) { return fd >= 0 && fd < FDS ? by_fd[fd] : NULL; }

static int opened(int fd, const char *path, int flags) {
    struct stat st;
    if (fd < 0 || fd >= FDS) return fd;
    pthread_mutex_lock(&lock);
    const char *name = below(path);
    by_fd[fd] = NULL;
    if (name && !fstat(fd, &st) && S_ISREG(st.st_mode)) {
        file *f = by_fd[fd] = find(name);
        if (flags & O_CREAT) open_copy(f);
        if (flags & O_TRUNC) {
            forget(f);
            open_copy(f);
            must(!real_ftruncate(f->copy, 0));
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_of(int flags, va_list args) { return flags & O_CREAT ? va_arg(args, mode_t) : 0; }

int open64(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return opened(real_open(path, flags, mode), path, flags);
}

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return opened(real_open(path, flags, mode), path, flags);
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) by_fd[fd] = NULL;
    return real_close(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    ssize_t done = real_pwrite(fd, data, size, at);
    if (done > 0 && of(fd)) {
        pthread_mutex_lock(&lock);
        note(of(fd), WRITE, at, data, done);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    off_t at = of(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = real_write(fd, data, size);
    if (done > 0 && of(fd)) {
        pthread_mutex_lock(&lock);
        note(of(fd), WRITE, at, data, done);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int ftruncate64(int fd, off64_t size) {
    int result = real_ftruncate(fd, size);
    if (!result && of(fd)) {
        pthread_mutex_lock(&lock);
        note(of(fd), TRUNCATE, size, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

static int synced(int fd, int (*real)(int)) {
    int result = real(fd);
    if (!result && of(fd) && !lie) {
        pthread_mutex_lock(&lock);
        make_durable(of(fd));
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int rename(const char *from, const char *to) {
    int result = real_rename(from, to);
    const char *old = below(from), *new = below(to);
    if (result || !old || !new) return result;
    char old_copy[PATH], new_copy[PATH];
    copy_path(old_copy, old);
    copy_path(new_copy, new);
    pthread_mutex_lock(&lock);
    real_rename(old_copy, new_copy);
    file *replaced = find(new);
    forget(replaced);
    close_copy(replaced);
    replaced->name[0] = 0;
    file *f = find(old);
    snprintf(f->name, sizeof f->name, "%s", new);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    int result = real_unlink(path);
    const char *name = below(path);
    if (result || !name) return result;
    char copy[PATH];
    copy_path(copy, name);
    pthread_mutex_lock(&lock);
    real_unlink(copy);
    file *f = find(name);
    forget(f);
    close_copy(f);
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    int result = real_mkdir(path, mode);
    const char *name = below(path);
    if (!result && name) {
        char copy[PATH];
        copy_path(copy, name);
        real_mkdir(copy, mode);
    }
    return result;
}
