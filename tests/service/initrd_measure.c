/* image/initrd/measure.c over a unix socket: `initrd_measure SOCKET PCR WORD`. Exit 1 and the code on a refusal. */
#include "init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

_Noreturn void refuse(const char *code, const char *what)
{
    printf("%s: %s\n", code, what);
    exit(1);
}

int main(int count, char **words)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int tpm = socket(AF_UNIX, SOCK_STREAM, 0);
    if (count != 4)
        return 2;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", words[1]);
    if (tpm < 0 || connect(tpm, (struct sockaddr *)&address, sizeof address) < 0)
        return 2;
    puts(extend(tpm, (unsigned)atoi(words[2]), words[3], strlen(words[3])) ? "extended" : "failure mode");
    return 0;
}
