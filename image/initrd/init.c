/*
 * PID 1 of the initrd: modules, dm-verity, switch to the root file system. There is no shell, no library loaded at run
 * time and no second way: whatever is not as the image build left it ends in refuse().
 *
 * The command line is part of the signed UKI, but systemd-stub appends the firmware's SMBIOS type 11 strings
 * (systemd-stub(7), io.systemd.stub.kernel-cmdline-extra). So the signed part ends with a marker that must be the last
 * word and occur once: a word appended by anyone is refused. What systemd-stub drops in /.extra is never looked at.
 */
#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MARKER "sdbox.end"
#define DEVICE_SECONDS 30
#define POLL_NANOSECONDS 10000000
#define READING_SECONDS 15 /* how long the refusal stays on the screen */

double uptime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* One write is one record; level 0 reaches every console whatever the log level. */
static void say(const char *level, const char *text)
{
    char line[512];
    int length = snprintf(line, sizeof line, "<%s>%s\n", level, text);
    int kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    if (kmsg >= 0) {
        if (write(kmsg, line, (size_t)length) < 0)
            sync(); /* nobody left to tell */
        close(kmsg);
    }
}

_Noreturn void refuse(const char *code, const char *what)
{
    char text[400];
    snprintf(text, sizeof text, "sdbox-refused image-%s (%s: %m)", code, what);
    say("0", text);
    sleep(READING_SECONDS);
    reboot(RB_AUTOBOOT);
    _exit(1); /* PID 1 ending is a kernel panic: still no way on */
}

static void mount_with(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
    mkdir(target, 0755);
    if (mount(source, target, type, flags, options) < 0)
        refuse("mount", target);
}

static void mount_or_refuse(const char *source, const char *target, const char *type, unsigned long flags)
{
    mount_with(source, target, type, flags, NULL);
}

static void read_parameters(struct parameters *found)
{
    char text[4096], *rest = text, *word, *last = "";
    int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC), markers = 0, hashes = 0;
    ssize_t length = read(file, text, sizeof text - 1);
    if (length <= 0)
        refuse("cmdline", "unreadable");
    close(file);
    text[length] = '\0';
    strcpy(found->init, "/usr/lib/systemd/systemd");
    while ((word = strsep(&rest, " \n")) != NULL) {
        if (*word == '\0')
            continue;
        last = word;
        markers += strcmp(word, MARKER) == 0;
        if (strncmp(word, "roothash=", 9) == 0 && strlen(word + 9) == ROOT_HASH_DIGITS) {
            strcpy(found->root_hash, word + 9);
            hashes++;
        } else if (strncmp(word, "init=", 5) == 0) {
            snprintf(found->init, sizeof found->init, "%s", word + 5);
        }
    }
    if (markers != 1 || hashes != 1 || strcmp(last, MARKER) != 0)
        refuse("cmdline", "not the signed one");
}

/* Partition UUIDs are the halves of the root hash (Discoverable Partitions Specification). */
static void wait_for_partition(const char *digits, char path[PATH_SIZE])
{
    const struct timespec pause = {.tv_nsec = POLL_NANOSECONDS};
    while (!find_partition(digits, path)) {
        if (uptime() > DEVICE_SECONDS)
            refuse("partition", "no disk has the root of this image");
        load_for_devices();
        nanosleep(&pause, NULL);
    }
}

/* The files of the initrd are memory that would stay taken; folders below / are not worth a walk. */
static void forget_files(const char *folder)
{
    struct dirent *entry;
    DIR *open_folder = opendir(folder);
    while (open_folder != NULL && (entry = readdir(open_folder)) != NULL)
        if (entry->d_type == DT_REG)
            unlinkat(dirfd(open_folder), entry->d_name, 0);
    if (open_folder != NULL)
        closedir(open_folder);
}

static _Noreturn void switch_root(const char *init)
{
    static const char *const carried[] = {"/dev", "/proc", "/sys"};
    char target[64];
    for (size_t i = 0; i < sizeof carried / sizeof *carried; i++) {
        snprintf(target, sizeof target, "/root%s", carried[i]);
        if (mount(carried[i], target, NULL, MS_MOVE, NULL) < 0)
            refuse("switch", target);
    }
    forget_files("/modules");
    forget_files("/");
    if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        refuse("switch", "root");
    execl(init, init, (char *)NULL);
    refuse("switch", init);
}

int main(void)
{
    struct parameters parameters = {0};
    char data[PATH_SIZE], hashes[PATH_SIZE], text[64];
    mount_or_refuse("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC);
    mount_or_refuse("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    mount_or_refuse("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    snprintf(text, sizeof text, "sdbox-boot initrd %.3f", uptime());
    say("3", text);
    read_parameters(&parameters);
    measure_processor();
    load_always();
    wait_for_partition(parameters.root_hash, data);
    wait_for_partition(parameters.root_hash + UUID_DIGITS, hashes);
    mount_or_refuse(open_verity(parameters.root_hash, data, hashes), "/root", "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV);
    snprintf(text, sizeof text, "sdbox-boot root %.3f", uptime());
    say("3", text);
    /* systemd leaves a /run that is already mounted as it is: these are its own options. */
    mount_with("tmpfs", "/root/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=0755,size=20%,nr_inodes=800k");
    measure_phase("leave-initrd");
    leave_notes("/root/run/sdbox-measured");
    switch_root(parameters.init);
}
