/* The initrd's one program, in five parts. Every failure ends in refuse(): a line on all consoles, then a reboot. */
#ifndef SDBOX_INIT_H
#define SDBOX_INIT_H

#include <limits.h>
#include <stddef.h>

#define ROOT_HASH_DIGITS 64 /* SHA-256 in hex */
#define UUID_DIGITS 32
#define PATH_SIZE 64

struct parameters {
    char root_hash[ROOT_HASH_DIGITS + 1];
    char init[PATH_MAX];
};

/* init.c */
_Noreturn void refuse(const char *code, const char *what);
double uptime(void);

/* measure.c: extends the TPM's PCRs, if the machine has a TPM; leave_notes() writes down what was measured so far. */
void measure_processor(void);
void measure_phase(const char *word);
void leave_notes(const char *path);
int extend(int tpm, unsigned pcr, const void *data, size_t length);

/* modules.c: loads what `/modules.conf` lists for the devices that are present; called again while devices appear. */
void load_always(void);
void load_for_devices(void);

/* partition.c: whether a partition with this GUID (32 hex digits) is there, and the path of its device. */
int find_partition(const char *digits, char path[PATH_SIZE]);

/* verity.c: maps root over its hash tree and returns the path of the mapped device. */
const char *open_verity(const char *root_hash, const char *data, const char *hashes);

#endif
