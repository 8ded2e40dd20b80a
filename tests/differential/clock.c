/* A clock that the test owns, by LD_PRELOAD: gettimeofday, which is all that redis-server tells the time by (its timers are
 * monotonic, and left alone).
 *
 *   cc -shared -fPIC -O2 -o clock.so clock.c
 *
 *   OWNED_CLOCK=path   a file of two 64-bit numbers: microseconds to stand still at, or 0; microseconds to be ahead
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *owned;

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("OWNED_CLOCK");
    int fd = path ? open(path, O_RDONLY) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        abort();
    close(fd);
    owned = at;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec real;
    int64_t now = owned[0];
    (void)zone;
    if (now == 0) {
        clock_gettime(CLOCK_REALTIME, &real);
        now = (int64_t)real.tv_sec * 1000000 + real.tv_nsec / 1000 + owned[1];
    }
    out->tv_sec = now / 1000000;
    out->tv_usec = now % 1000000;
    return 0;
}
