/*
 * dm-verity over two partitions (kernel: Documentation/admin-guide/device-mapper/verity.rst). The parameters come from
 * the superblock that `veritysetup format` writes; only shapes that our build makes are accepted, and the root hash
 * decides about the rest.
 */
#include "init.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK 4096
#define SECTOR 512
#define SALT_SIZE 32

struct superblock { /* cryptsetup lib/verity/verity.c */
    uint8_t signature[8];
    uint32_t version, hash_type;
    uint8_t uuid[16];
    char algorithm[32];
    uint32_t data_block_size, hash_block_size;
    uint64_t data_blocks;
    uint16_t salt_size;
    uint8_t padding[6], salt[256];
} __attribute__((packed));

union request {
    struct dm_ioctl header;
    char bytes[4096];
};

static void read_superblock(const char *device, struct superblock *found)
{
    int file = open(device, O_RDONLY | O_CLOEXEC);
    if (file < 0 || pread(file, found, sizeof *found, 0) != sizeof *found)
        refuse("verity", device);
    close(file);
    if (memcmp(found->signature, "verity\0\0", 8) != 0 || found->version != 1 || found->hash_type != 1)
        refuse("verity", "superblock");
    if (strncmp(found->algorithm, "sha256", sizeof found->algorithm) != 0 || found->salt_size != SALT_SIZE)
        refuse("verity", "algorithm");
    if (found->data_block_size != BLOCK || found->hash_block_size != BLOCK)
        refuse("verity", "block size");
}

static void check_size(const char *device, uint64_t blocks)
{
    uint64_t bytes = 0;
    int file = open(device, O_RDONLY | O_CLOEXEC);
    if (file < 0 || ioctl(file, BLKGETSIZE64, &bytes) < 0 || blocks == 0 || blocks > bytes / BLOCK)
        refuse("verity", "size");
    close(file);
}

static void table_line(const struct superblock *super, const char *const part[4], char *line, size_t size)
{
    char salt[2 * SALT_SIZE + 1];
    for (size_t i = 0; i < SALT_SIZE; i++)
        snprintf(salt + 2 * i, 3, "%02x", super->salt[i]);
    snprintf(line, size, "1 %s %s %d %d %llu 1 sha256 %s %s%s", part[0], part[1], BLOCK, BLOCK,
             (unsigned long long)super->data_blocks, part[2], salt, part[3]);
}

static void control(int dm, unsigned long command, union request *request, const char *what)
{
    request->header.version[0] = DM_VERSION_MAJOR;
    request->header.data_size = sizeof *request;
    request->header.data_start = sizeof request->header;
    strcpy(request->header.name, "root");
    if (ioctl(dm, command, request) < 0)
        refuse("verity", what);
}

/* A table takes effect when the device is resumed: DM_DEV_SUSPEND without DM_SUSPEND_FLAG. Returns the device's number. */
static uint64_t put_table(int dm, const struct superblock *super, const char *const part[4])
{
    union request load = {0}, resume = {0};
    struct dm_target_spec *target = (struct dm_target_spec *)(load.bytes + sizeof load.header);
    char *line = (char *)(target + 1);
    load.header.flags = DM_READONLY_FLAG;
    load.header.target_count = 1;
    target->length = super->data_blocks * (BLOCK / SECTOR);
    strcpy(target->target_type, "verity");
    table_line(super, part, line, sizeof load - (size_t)(line - load.bytes));
    control(dm, DM_TABLE_LOAD, &load, "table");
    control(dm, DM_DEV_SUSPEND, &resume, "resume");
    return resume.header.dev;
}

/* Reading through the mapping checks the block. */
static void check_first_block(const char *device)
{
    char block[BLOCK];
    int file = open(device, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, block, sizeof block) != sizeof block)
        refuse("root", "first block");
    close(file);
}

/* Twice: a changed first block is said in our words; from then on any changed block stops the kernel at once. */
const char *open_verity(const char *root_hash, const char *data, const char *hashes)
{
    static char device[32];
    const char *const gentle[4] = {data, hashes, root_hash, ""};
    const char *const strict[4] = {data, hashes, root_hash, " 1 panic_on_corruption"};
    struct superblock super;
    union request create = {0};
    int dm = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (dm < 0)
        refuse("verity", "device mapper");
    read_superblock(hashes, &super);
    check_size(data, super.data_blocks);
    create.header.flags = DM_READONLY_FLAG;
    control(dm, DM_DEV_CREATE, &create, "create");
    snprintf(device, sizeof device, "/dev/dm-%u", minor(put_table(dm, &super, gentle)));
    check_first_block(device);
    put_table(dm, &super, strict);
    close(dm);
    return device;
}
