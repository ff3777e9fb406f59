/*
 * Kernel modules by device. `/modules.conf` is written by the image build, one line a module and its dependencies:
 *     <modalias pattern or !> <file> [<file> ...]         files in loading order, `!` = always
 * The kernel checks each module's signature (module.sig_enforce=1).
 */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODALIAS_SIZE 512

static const char *const buses[] = {"/sys/bus/pci/devices", "/sys/bus/virtio/devices", "/sys/bus/scsi/devices"};

static void load_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "/modules/%.200s", name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        refuse("module", name);
    /* ENODEV: made for a processor that is not here; what depends on it will say so. */
    if (syscall(SYS_finit_module, file, "", 0) < 0 && errno != EEXIST && errno != ENODEV)
        refuse("module", name);
    close(file);
}

/* Load the line's files if its pattern is `!` (alias == NULL) or matches `alias`. */
static void load_line(char *line, const char *alias)
{
    char *word, *pattern = strsep(&line, " \n");
    int wanted = alias == NULL ? strcmp(pattern, "!") == 0 : fnmatch(pattern, alias, 0) == 0;
    while (wanted && (word = strsep(&line, " \n")) != NULL)
        if (*word != '\0')
            load_file(word);
}

static void load_matching(const char *alias)
{
    char line[4096];
    FILE *list = fopen("/modules.conf", "re");
    if (list == NULL)
        refuse("module", "modules.conf");
    while (fgets(line, sizeof line, list) != NULL)
        load_line(line, alias);
    fclose(list);
}

void load_always(void)
{
    load_matching(NULL);
}

static void load_for_device(const char *bus, const char *device)
{
    char path[512], alias[MODALIAS_SIZE];
    snprintf(path, sizeof path, "%s/%.250s/modalias", bus, device);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return; /* unplugged in between */
    if (fgets(alias, sizeof alias, file) != NULL) {
        alias[strcspn(alias, "\n")] = '\0';
        load_matching(alias);
    }
    fclose(file);
}

void load_for_devices(void)
{
    for (size_t i = 0; i < sizeof buses / sizeof *buses; i++) {
        struct dirent *entry;
        DIR *folder = opendir(buses[i]);
        while (folder != NULL && (entry = readdir(folder)) != NULL)
            if (entry->d_name[0] != '.')
                load_for_device(buses[i], entry->d_name);
        if (folder != NULL)
            closedir(folder);
    }
}
