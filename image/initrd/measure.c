/*
 * What the initrd measures (docs/design/0009): the processor with its loaded microcode, and that the initrd is over.
 *
 * TPM2_PCR_Event (TPM 2.0 part 3, 22.3): the TPM hashes the data itself and extends every bank it has, so no bank is left
 * in which the boot can be told differently. The data is noted in /run for the box's event log; nobody believes the note,
 * the quoted PCRs prove it. A machine without a TPM, or with one in failure mode, goes on: the agent tells its user, and
 * no gateway lets it in. A TPM that works and does not extend is refused.
 */
#include "init.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WITH_SESSIONS 0x8002
#define PCR_EVENT 0x0000013C
#define PASSWORD_SESSION 0x40000009
#define ANSWER_SIZE 4096 /* TPM_BUFSIZE of the kernel's driver */
#define MOST_BANKS 16
#define SHA256 0x000B
#define FAILURE_MODE 0x101 /* TPM_RC_FAILURE: it answers no other command either, until its power is cut */

#define EV_IPL 13
#define EV_CPU_MICROCODE 9
#define PHASE_PCR 11     /* systemd-stub has put the kernel image's sections there */
#define PROCESSOR_PCR 15 /* nothing else of the image uses it */

static char notes[512];

static _Noreturn void refuse_answer(const char *what)
{
    errno = EPROTO;
    refuse("tpm", what);
}

static void put(uint8_t **at, uint64_t value, unsigned size)
{
    while (size-- > 0)
        *(*at)++ = (uint8_t)(value >> (8 * size));
}

struct answer {
    uint8_t bytes[ANSWER_SIZE];
    size_t length, at;
};

static uint32_t take(struct answer *answer, unsigned size)
{
    uint32_t value = 0;
    if (answer->length - answer->at < size)
        refuse_answer("cut answer");
    while (size-- > 0)
        value = value << 8 | answer->bytes[answer->at++];
    return value;
}

/* TCG Algorithm Registry, table 3. */
static unsigned digest_size(uint32_t algorithm)
{
    switch (algorithm) {
    case 0x0004:
        return 20;
    case 0x000B:
    case 0x0012: /* SM3 */
    case 0x0027: /* SHA3-256 */
        return 32;
    case 0x000C:
    case 0x0028: /* SHA3-384 */
        return 48;
    case 0x000D:
    case 0x0029: /* SHA3-512 */
        return 64;
    default:
        refuse_answer("unknown bank");
    }
}

/* The answer is exactly: success, one digest for each bank with SHA-256 among them, an empty password session. Or 0. */
static int is_extended(struct answer *answer)
{
    int sha256 = 0;
    uint32_t tag = take(answer, 2), size = take(answer, 4), code = take(answer, 4);
    if (code == FAILURE_MODE)
        return 0;
    if (code != 0 || tag != WITH_SESSIONS || size != answer->length)
        refuse_answer("not extended");
    size_t parameters = take(answer, 4), start = answer->at;
    uint32_t banks = take(answer, 4);
    if (banks == 0 || banks > MOST_BANKS)
        refuse_answer("number of banks");
    while (banks-- > 0) {
        uint32_t algorithm = take(answer, 2);
        unsigned left = digest_size(algorithm);
        sha256 += algorithm == SHA256;
        while (left-- > 0)
            take(answer, 1);
    }
    if (sha256 != 1 || answer->at - start != parameters)
        refuse_answer("no SHA-256 bank");
    /* nonce, attributes (continueSession at most), acknowledgement */
    if (take(answer, 2) != 0 || take(answer, 1) > 1 || take(answer, 2) != 0 || answer->at != answer->length)
        refuse_answer("session");
    return 1;
}

/* Extend `pcr` with the digests of `data`, at most 128 bytes; 0 if the TPM is in failure mode. Part 3, 22.3.2. */
int extend(int tpm, unsigned pcr, const void *data, size_t length)
{
    static struct answer answer;
    uint8_t command[192], *at = command;
    if (length > 128)
        refuse_answer("event");
    put(&at, WITH_SESSIONS, 2);
    put(&at, 10 + 4 + 4 + 9 + 2 + length, 4);
    put(&at, PCR_EVENT, 4);
    put(&at, pcr, 4);
    put(&at, 9, 4); /* authorization: the empty password of every PCR */
    put(&at, PASSWORD_SESSION, 4);
    put(&at, 0, 2 + 1 + 2);
    put(&at, length, 2);
    memcpy(at, data, length);
    at += length;
    if (write(tpm, command, (size_t)(at - command)) != at - command)
        refuse("tpm", "command");
    ssize_t got = read(tpm, answer.bytes, sizeof answer.bytes);
    if (got < 0)
        refuse("tpm", "answer");
    answer.length = (size_t)got;
    answer.at = 0;
    return is_extended(&answer);
}

/* A line for the event log: PCR, type of event (PC Client Platform Firmware Profile 1.06, 10.4.1), its data in hex. */
static void note(unsigned pcr, unsigned type, const uint8_t *data, size_t length)
{
    size_t used = strlen(notes);
    used += (size_t)snprintf(notes + used, sizeof notes - used, "%u %u ", pcr, type);
    for (size_t i = 0; i < length && used + 4 < sizeof notes; i++)
        used += (size_t)snprintf(notes + used, sizeof notes - used, "%02x", data[i]);
    snprintf(notes + used, sizeof notes - used, "\n");
}

static void measure(unsigned pcr, unsigned type, const void *data, size_t length)
{
    int tpm = open("/dev/tpm0", O_RDWR | O_CLOEXEC);
    if (tpm < 0 && errno == ENOENT)
        return;
    if (tpm < 0)
        refuse("tpm", "/dev/tpm0");
    if (extend(tpm, pcr, data, length))
        note(pcr, type, data, length);
    close(tpm);
}

/* The kernel's word on the revision that runs, of the first processor; 0, which no policy accepts, if it says none. */
static uint32_t microcode_revision(void)
{
    char line[4096];
    uint32_t revision = 0;
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file != NULL && revision == 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "microcode\t", 10) == 0 && strchr(line, ':') != NULL)
            revision = (uint32_t)strtoul(strchr(line, ':') + 1, NULL, 16);
    if (file != NULL)
        fclose(file);
    return revision;
}

static uint8_t *put_little(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        *at++ = (uint8_t)(value >> (8 * i));
    return at;
}

/* boot/sdbox/boot/microcode.py: a label with its NUL, then CPUID leaf 1, EAX, and the revision, little-endian. */
void measure_processor(void)
{
    static const char label[] = "sdbox-microcode-v1";
    uint8_t event[sizeof label + 8];
    unsigned signature = 0, b, c, d;
    __get_cpuid(1, &signature, &b, &c, &d);
    memcpy(event, label, sizeof label);
    put_little(put_little(event + sizeof label, signature), microcode_revision());
    measure(PROCESSOR_PCR, EV_CPU_MICROCODE, event, sizeof event);
}

/* The word as systemd-pcrphase(8) measures it: without a NUL. */
void measure_phase(const char *word)
{
    measure(PHASE_PCR, EV_IPL, word, strlen(word));
}

void leave_notes(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    size_t length = strlen(notes);
    if (file < 0 || write(file, notes, length) != (ssize_t)length)
        refuse("notes", path);
    close(file);
}
