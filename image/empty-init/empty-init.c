/* A PID 1 that says when it started and then waits: what the same firmware, kernel and initrd cost without a system. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    int kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    dprintf(kmsg, "<3>sdbox-boot empty-init %.3f\n", (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    for (;;)
        pause();
}
