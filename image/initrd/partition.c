/*
 * Finding a partition by its unique GUID (UEFI 2.10, chapter 5.3). Linux 6.12 does not tell the GUID in sysfs, so the
 * table is read here. Nothing depends on its being honest: what is found is checked against the root hash.
 */
#include "init.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GUID_SIZE 16
#define MOST_ENTRIES 128

struct gpt_header {
    char signature[8];
    uint32_t revision, size, checksum, reserved;
    uint64_t own_block, other_block, first_usable, last_usable;
    uint8_t disk[GUID_SIZE];
    uint64_t entries_block;
    uint32_t entry_count, entry_size, entries_checksum;
} __attribute__((packed));

struct gpt_entry {
    uint8_t type[GUID_SIZE], unique[GUID_SIZE];
    uint64_t first, last, flags;
    uint8_t name[72];
} __attribute__((packed));

/* The first three fields of a GUID are little-endian on disk (UEFI 2.10, appendix A). */
static void guid_of_digits(const char *digits, uint8_t guid[GUID_SIZE])
{
    static const uint8_t order[GUID_SIZE] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < GUID_SIZE; i++) {
        const char pair[3] = {digits[2 * i], digits[2 * i + 1], '\0'};
        guid[order[i]] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

/* Return the number of the partition on the open disk, 0 if it is not there. */
static unsigned find_on_disk(int disk, const uint8_t guid[GUID_SIZE])
{
    struct gpt_header header;
    struct gpt_entry entries[MOST_ENTRIES];
    int block;
    if (ioctl(disk, BLKSSZGET, &block) < 0 || pread(disk, &header, sizeof header, block) != sizeof header)
        return 0;
    if (memcmp(header.signature, "EFI PART", 8) != 0 || header.entry_size != sizeof *entries)
        return 0;
    if (header.entry_count > MOST_ENTRIES || header.entries_block > INT32_MAX)
        return 0;
    ssize_t length = (ssize_t)(header.entry_count * sizeof *entries);
    if (pread(disk, entries, (size_t)length, (off_t)header.entries_block * block) != length)
        return 0;
    for (unsigned i = 0; i < header.entry_count; i++)
        if (memcmp(entries[i].unique, guid, GUID_SIZE) == 0)
            return i + 1;
    return 0;
}

/* sda -> sda2, nvme0n1 -> nvme0n1p2 (kernel: block/partitions/core.c). */
static int is_on(const char *disk, const uint8_t guid[GUID_SIZE], char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "/dev/%.40s", disk);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    unsigned number = find_on_disk(file, guid);
    close(file);
    if (number != 0)
        snprintf(path, PATH_SIZE, "/dev/%.40s%s%u", disk, isdigit((unsigned char)disk[strlen(disk) - 1]) ? "p" : "", number);
    return number != 0 && access(path, R_OK) == 0;
}

int find_partition(const char *digits, char path[PATH_SIZE])
{
    uint8_t guid[GUID_SIZE];
    struct dirent *entry;
    int found = 0;
    DIR *folder = opendir("/sys/block");
    guid_of_digits(digits, guid);
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL)
        found = entry->d_name[0] != '.' && is_on(entry->d_name, guid, path);
    if (folder != NULL)
        closedir(folder);
    return found;
}
