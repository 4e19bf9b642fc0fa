/* Loaded before libc (LD_PRELOAD): a clock and a disk that fail when a file says so.

   While $CLOCK_BACK is there, the time of day is an hour ago. While $DISK_BROKEN is there, nothing
   that is written reaches the disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int is_there(const char *name) {
    const char *path = getenv(name);
    return path && access(path, F_OK) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now), before = errno;
    if (clock == CLOCK_REALTIME && is_there("CLOCK_BACK"))
        now->tv_sec -= 3600;
    errno = before;
    return status;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int status = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return status;
}

time_t time(time_t *place) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (place)
        *place = exact.tv_sec;
    return exact.tv_sec;
}

int fsync(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    if (is_there("DISK_BROKEN")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}

int fdatasync(int file) { return fsync(file); }
